#include "app/engine.h"

#include "app/stop_strings.h"
#include "core/error.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>

namespace nemo {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

SamplerParams sampling_from(const GgufMetadata& metadata) {
    SamplerParams params;
    const auto read = [&](const char* key, float fallback) {
        return static_cast<float>(metadata.get_real(std::string("nemo.sampling.") + key, fallback));
    };
    params.temperature = read("temperature", params.temperature);
    params.top_p = read("top_p", params.top_p);
    params.min_p = read("min_p", params.min_p);
    params.repetition_penalty = read("repetition_penalty", params.repetition_penalty);
    params.top_k = static_cast<int32_t>(std::clamp<int64_t>(
        metadata.get_integer("nemo.sampling.top_k", params.top_k), 0, INT32_MAX));
    try {
        const Sampler sampler(params);
    } catch (const Error& error) {
        fail(ErrorCode::bad_file, "{}: keys nemo.sampling.*: {}", metadata.source(), error.what());
    }
    return params;
}

// Generates into `result`; one call per answer.
class Generation {
public:
    Generation(const Tokenizer& tokenizer, Session& session, const ChatPrompt& prompt,
               const GenerateOptions& options, SpeculationMode speculation,
               const Engine::OnText& on_text)
        : tokenizer_(tokenizer),
          session_(session),
          prompt_(prompt),
          options_(options),
          speculation_mode_(speculation),
          on_text_(on_text),
          sampler_(options.sampling),
          decoder_(tokenizer, false),
          stops_(options.stop_strings),
          splitter_(prompt.thought == ChatPrompt::Thought::opened) {}

    GenerateResult run(const Session::Cancelled& cancelled) {
        const auto start = Clock::now();
        const SyncResult prompt = session_.sync(prompt_.ids, prompt_.checkpoints, [&] {
            show_progress(session_.state().position());
            return cancelled && cancelled();
        });
        show_progress(std::ssize(prompt_.ids));
        for (const int32_t token : prompt_.ids) sampler_.accept(token);
        result_.n_reused = prompt.n_reused;
        result_.n_read = prompt.n_read;
        result_.prompt_seconds = seconds_since(start);

        const auto generate_start = Clock::now();
        speculation_.emplace(session_, speculation_mode_);
        result_.reason = answer(prompt.logits, cancelled);
        speculation_->settle();
        result_.n_drafted = speculation_->n_drafted();
        result_.n_accepted = speculation_->n_accepted();
        show(stops_.push(decoder_.finish()));
        show(stops_.finish());
        splitter_.finish(sink_);
        result_.generate_seconds = seconds_since(generate_start);
        return std::move(result_);
    }

private:
    FinishReason answer(std::span<const float> logits, const Session::Cancelled& cancelled) {
        if (!logits.empty() && options_.max_tokens == 0) return FinishReason::length;
        for (;;) {
            if (logits.empty() || (cancelled && cancelled())) return FinishReason::cancelled;
            const int32_t token = next_token(logits);
            sampler_.accept(token);
            ++result_.n_generated;
            if (tokenizer_.is_end_of_generation(token)) return FinishReason::stop;
            show(stops_.push(decoder_.push(token)));
            if (stops_.stopped()) return FinishReason::stop;
            // The model need not read a token that no other will follow.
            if (result_.n_generated == options_.max_tokens) return FinishReason::length;
            if (speculation_->position() >= session_.n_context()) return FinishReason::context_full;
            logits = speculation_->append(token);
        }
    }

    // The most the model may think, then the mark that ends a thought, then the model again.
    int32_t next_token(std::span<const float> logits) {
        if (in_thought() && options_.reasoning_budget >= 0 && !closing_ &&
            n_thought_++ >= options_.reasoning_budget)
            close_thought();
        if (forced_.empty()) return sampler_.sample(logits);
        const int32_t token = forced_.front();
        forced_.pop_front();
        return token;
    }

    void close_thought() {
        closing_ = true;
        const std::string mark =
            (result_.reasoning.empty() ? "" : "\n") + std::string(kThoughtClose);
        const std::vector<int32_t> ids = tokenizer_.encode(mark, true, {.add_special = false});
        forced_.assign(ids.begin(), ids.end());
    }

    void show_progress(int64_t n_done) const {
        if (options_.on_prompt) options_.on_prompt(n_done, std::ssize(prompt_.ids));
    }

    bool in_thought() const {
        return prompt_.thought != ChatPrompt::Thought::unmarked && splitter_.in_thought();
    }

    void show(const std::string& text) {
        if (text.empty()) return;
        if (prompt_.thought == ChatPrompt::Thought::unmarked)
            sink_(TextPart::answer, text);
        else
            splitter_.push(text, sink_);
    }

    const Tokenizer& tokenizer_;
    Session& session_;
    const ChatPrompt& prompt_;
    const GenerateOptions& options_;
    const SpeculationMode speculation_mode_;
    const Engine::OnText& on_text_;
    std::optional<Speculation> speculation_;
    Sampler sampler_;
    StreamDecoder decoder_;
    StopStrings stops_;
    ReasoningSplitter splitter_;
    const ReasoningSplitter::Sink sink_ = [this](TextPart part, std::string_view text) {
        (part == TextPart::thought ? result_.reasoning : result_.text) += text;
        on_text_(part, text);
    };
    int64_t n_thought_ = 0;  // tokens
    bool closing_ = false;   // the thought has reached its budget
    std::deque<int32_t> forced_;
    GenerateResult result_;
};

}  // namespace

const char* finish_reason_name(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop:
            return "stop";
        case FinishReason::length:
            return "length";
        case FinishReason::context_full:
            return "context_full";
        case FinishReason::cancelled:
            return "cancelled";
    }
    return "?";
}

Engine::Engine(const std::filesystem::path& model_path, int n_threads,
               const LoadOptions& load_options)
    : backend_(make_cpu_backend(n_threads)) {
    const auto file = load_model_file(model_path, load_options);
    model_ = std::make_unique<Model>(file, *backend_);
    tokenizer_ = Tokenizer::create(tokenizer_from_gguf(*file), file->path());
    if (tokenizer_->n_vocab() > model_->config().n_vocab)
        fail(ErrorCode::bad_file, "{}: the tokenizer has {} tokens, but the model knows {}",
             file->path(), tokenizer_->n_vocab(), model_->config().n_vocab);
    set_chat_template(tokenizer_->data().chat_template, file->path() + " (chat template)");
    default_sampling_ = sampling_from(file->metadata());
}

void Engine::set_chat_template(std::string_view text, std::string source_name) {
    renderer_ = std::make_unique<const PromptRenderer>(*tokenizer_, text, std::move(source_name));
}

ChatPrompt Engine::raw_prompt(std::string_view text) const {
    return {.ids = tokenizer_->encode(text, true), .thought = ChatPrompt::Thought::unmarked};
}

GenerateResult Engine::generate(Session& session, const ChatPrompt& prompt,
                                const GenerateOptions& options, const OnText& on_text,
                                const Session::Cancelled& cancelled) const {
    if (prompt.ids.empty()) fail(ErrorCode::usage, "the prompt is empty");
    return Generation(*tokenizer_, session, prompt, options, speculation_, on_text).run(cancelled);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_path) {
    const ModelFile file = ModelFile::open(model_path);
    return Tokenizer::create(tokenizer_from_gguf(file), file.path());
}

}  // namespace nemo
