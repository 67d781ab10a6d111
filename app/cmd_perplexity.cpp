// nemo-cli perplexity: how well a model predicts a text, and how far its predictions are from those
// of another file of the same model.
#include "app/commands.h"
#include "app/engine.h"
#include "app/logits_base.h"
#include "app/perplexity.h"
#include "app/text_chunks.h"
#include "core/atomic_file.h"
#include "core/console.h"
#include "core/error.h"
#include "core/progress_line.h"

#include <algorithm>
#include <cmath>

namespace nemo {

namespace {

struct Scores {
    std::vector<double> nll;
    // Only with a base.
    std::vector<double> base_nll;
    std::vector<double> divergence;
    int64_t n_same_top = 0;
};

TextChunks text_of_base(const PerplexityCommand& command, const LogitsBase& base,
                        const Engine& engine) {
    const LogitsBaseHeader& header = base.header();
    const int64_t n_vocab = engine.model().config().n_vocab;
    if (header.n_vocab != n_vocab)
        fail(ErrorCode::bad_file, "{}: predictions over {} tokens, but the model {} has {}",
             base.path(), header.n_vocab, command.model, n_vocab);
    if (command.n_context > 0 && command.n_context != header.n_context)
        fail(ErrorCode::usage, "{}: written with -c {}, not {}", base.path(), header.n_context,
             command.n_context);
    TextChunks text = {header.tokens, header.n_context, header.n_chunks};
    if (!command.text_file.empty()) {
        const std::vector<int32_t> tokens =
            tokens_of_file({command.text_file, command.special}, engine.tokenizer());
        if (!std::ranges::equal(
                text.tokens, std::span(tokens).first(std::min(tokens.size(), text.tokens.size()))))
            fail(ErrorCode::bad_file, "{}: written for another text than {}, or another tokenizer",
                 base.path(), command.text_file);
    }
    if (command.n_chunks > 0) text.n_chunks = std::min(text.n_chunks, command.n_chunks);
    return text;
}

class Scorer {
public:
    Scorer(const Engine& engine, const TextChunks& text, const KvTypes& kv_types,
           const LogitsBase* base, LogitsBaseWriter* writer)
        : engine_(engine),
          text_(text),
          base_(base),
          writer_(writer),
          session_(engine.model(), {.n_context = text.n_context, .kv_types = kv_types}) {
        if (base) base_log_probs_.resize(static_cast<size_t>(engine.model().config().n_vocab));
    }

    void add_chunk(int64_t index) {
        if (base_) base_->check_chunk(index);
        predict_chunk(engine_.model(), session_, text_.chunk(index, engine_.tokenizer().data()),
                      [&](int64_t row, std::span<const float> logits, int32_t next) {
                          add_row(index, row, logits, next);
                      });
    }

    const Scores& scores() const { return scores_; }

private:
    void add_row(int64_t chunk, int64_t row, std::span<const float> logits, int32_t next) {
        const double normaliser = log_sum_exp(logits);
        const double nll = normaliser - logits[static_cast<size_t>(next)];
        if (!std::isfinite(nll))
            fail(ErrorCode::bad_file, "the model's prediction in chunk {} is not a number: {}",
                 chunk + 1, nll);
        scores_.nll.push_back(nll);
        if (writer_) writer_->write_row(logits, normaliser, nll);
        if (!base_) return;
        const LogitsBase::Row base = base_->read_row(chunk, row, base_log_probs_);
        scores_.base_nll.push_back(base.nll);
        scores_.divergence.push_back(kl_divergence(base_log_probs_, logits, normaliser));
        scores_.n_same_top += base.top == top_index(logits);
    }

    const Engine& engine_;
    const TextChunks& text_;
    const LogitsBase* base_;
    LogitsBaseWriter* writer_;
    Session session_;
    std::vector<double> base_log_probs_;
    Scores scores_;
};

void show_progress(int64_t n_done, int64_t n_chunks, const Scores& scores, ProgressLine& line) {
    if (!line.due()) return;
    line.show(fmt::format(
        "[{}/{}] perplexity {:.4f}, {}", n_done, n_chunks, perplexity(scores.nll).value,
        line.time_left(static_cast<double>(n_done), static_cast<double>(n_chunks - n_done))));
}

std::string line(const char* label, const Estimate& estimate, int digits) {
    return fmt::format("{} {:.{}f} +- {:.{}f}\n", label, estimate.value, digits, estimate.error,
                       digits);
}

std::string report(const Scores& scores, bool with_base) {
    const std::string own = line("perplexity", perplexity(scores.nll), 4);
    if (!with_base) return own;
    const Estimate same_top = share(scores.n_same_top, std::ssize(scores.nll));
    std::string text = line("base perplexity", perplexity(scores.base_nll), 4);
    text += line("perplexity ratio", perplexity_ratio(scores.nll, scores.base_nll), 6);
    text += line("KL divergence mean", mean(scores.divergence), 6);
    text += fmt::format("KL divergence median {:.6f}\n", quantile(scores.divergence, 0.5));
    text += fmt::format("KL divergence 99% {:.6f}\n", quantile(scores.divergence, 0.99));
    text += fmt::format("same top token {:.3f} +- {:.3f} %\n", 100 * same_top.value,
                        100 * same_top.error);
    return text + own;
}

}  // namespace

int run_perplexity(const PerplexityCommand& command) {
    if (!command.base_out.empty()) {
        refuse_to_replace(command.base_out, command.model);
        refuse_to_replace(command.base_out, command.text_file);
        refuse_to_replace_other_file(command.base_out);
    }
    std::optional<LogitsBase> base;
    if (!command.base_in.empty()) base = LogitsBase::open(command.base_in);
    const Engine engine(command.model, command.threads, command.load);
    const TextChunks text =
        base ? text_of_base(command, *base, engine)
             : read_chunks({command.text_file, command.special},
                           command.n_context > 0 ? command.n_context : kDefaultChunkTokens,
                           command.n_chunks, engine.tokenizer());
    std::optional<LogitsBaseWriter> writer;
    if (!command.base_out.empty())
        writer.emplace(command.base_out,
                       LogitsBaseHeader{engine.model().config().n_vocab, text.n_chunks,
                                        text.n_context, text.tokens});

    Scorer scorer(engine, text, command.kv_types, base ? &*base : nullptr,
                  writer ? &*writer : nullptr);
    {
        ProgressLine progress;
        for (int64_t chunk = 0; chunk < text.n_chunks; ++chunk) {
            scorer.add_chunk(chunk);
            show_progress(chunk + 1, text.n_chunks, scorer.scores(), progress);
        }
    }
    if (writer) writer->finish();
    write_stdout(report(scorer.scores(), base.has_value()));
    return 0;
}

}  // namespace nemo
