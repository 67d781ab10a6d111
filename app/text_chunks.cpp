#include "app/text_chunks.h"

#include "app/perplexity.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"

#include <algorithm>

namespace nemo {

namespace {

[[noreturn]] void stop() {
    fail(ErrorCode::interrupted, "interrupted");
}

}  // namespace

std::vector<int32_t> TextChunks::chunk(int64_t index, const TokenizerData& vocabulary) const {
    const auto first = tokens.begin() + index * n_context;
    std::vector<int32_t> result(first, first + n_context);
    if (vocabulary.add_bos && vocabulary.bos >= 0) result[0] = vocabulary.bos;
    return result;
}

std::vector<int32_t> tokens_of_file(const TextFile& file, const Tokenizer& tokenizer) {
    std::string text = file.path == "-" ? read_stdin(false) : read_text_file(file.path);
    if (text.ends_with('\n')) text.pop_back();
    std::vector<int32_t> tokens = tokenizer.encode(text, file.special);
    // The end of the file is not the end of a text the model knows.
    if (tokenizer.data().add_eos && !tokens.empty()) tokens.pop_back();
    return tokens;
}

TextChunks read_chunks(const TextFile& file, int64_t n_context, int64_t n_chunks,
                       const Tokenizer& tokenizer) {
    TextChunks text;
    text.n_context = n_context;
    text.tokens = tokens_of_file(file, tokenizer);
    const int64_t n_tokens = std::ssize(text.tokens);
    if (n_tokens < 2 * n_context)
        fail(ErrorCode::usage,
             "{}: {} tokens, but chunks of {} need at least {}; give a longer text or a smaller -c",
             file.path, n_tokens, n_context, 2 * n_context);
    text.n_chunks = n_tokens / n_context;
    if (n_chunks > 0) text.n_chunks = std::min(text.n_chunks, n_chunks);
    text.tokens.resize(static_cast<size_t>(text.n_chunks * n_context));
    return text;
}

void predict_chunk(const Model& model, Session& session, std::span<const int32_t> chunk,
                   const PredictionSink& sink) {
    const auto n_vocab = static_cast<size_t>(model.config().n_vocab);
    const auto first_scored = static_cast<size_t>(first_scored_position(std::ssize(chunk)));
    // Nothing is predicted from the last token.
    const std::span<const int32_t> read = chunk.first(chunk.size() - 1);
    session.reset();
    if (session.append(read.first(first_scored - 1), interrupted).empty()) stop();
    size_t row = 0;
    session.append_with_logits(read.subspan(first_scored - 1), [&](std::span<const float> logits) {
        if (interrupted()) stop();
        for (size_t i = 0; i < logits.size(); i += n_vocab, ++row)
            sink(static_cast<int64_t>(row), logits.subspan(i, n_vocab), chunk[first_scored + row]);
    });
}

}  // namespace nemo
