#include "app/engine.h"

#include "app/stop_strings.h"
#include "core/error.h"

#include <algorithm>
#include <chrono>
#include <ctime>

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
    return params;
}

// Generates into `result`; one call per answer.
class Generation {
public:
    Generation(const Tokenizer& tokenizer, Session& session, const GenerateOptions& options,
               const Engine::OnText& on_text)
        : tokenizer_(tokenizer),
          session_(session),
          options_(options),
          on_text_(on_text),
          sampler_(options.sampling),
          decoder_(tokenizer, false),
          stops_(options.stop_strings) {
        for (const int32_t token : session.tokens()) sampler_.accept(token);
    }

    GenerateResult run(const std::vector<int32_t>& prompt, const Session::Cancelled& cancelled) {
        const auto start = Clock::now();
        std::span<const float> logits = session_.append(prompt, cancelled);
        for (const int32_t token : prompt) sampler_.accept(token);
        result_.n_prompt = std::ssize(prompt);
        result_.prompt_seconds = seconds_since(start);

        const auto generate_start = Clock::now();
        result_.reason = answer(logits, cancelled);
        show(stops_.push(decoder_.finish()));
        show(stops_.finish());
        result_.generate_seconds = seconds_since(generate_start);
        return std::move(result_);
    }

private:
    FinishReason answer(std::span<const float> logits, const Session::Cancelled& cancelled) {
        for (;;) {
            if (logits.empty() || (cancelled && cancelled())) return FinishReason::cancelled;
            if (result_.n_generated == options_.max_tokens) return FinishReason::length;
            const int32_t token = sampler_.sample(logits);
            sampler_.accept(token);
            ++result_.n_generated;
            if (tokenizer_.is_end_of_generation(token)) return FinishReason::stop;
            show(stops_.push(decoder_.push(token)));
            if (stops_.stopped()) return FinishReason::stop;
            if (session_.state().position() >= session_.n_context())
                return FinishReason::context_full;
            logits = session_.append({&token, 1});
        }
    }

    void show(const std::string& text) {
        if (text.empty()) return;
        result_.text += text;
        on_text_(text);
    }

    const Tokenizer& tokenizer_;
    Session& session_;
    const GenerateOptions& options_;
    const Engine::OnText& on_text_;
    Sampler sampler_;
    StreamDecoder decoder_;
    StopStrings stops_;
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

void Engine::set_chat_template(std::string text, std::string source_name) {
    template_text_ = std::move(text);
    template_source_ = std::move(source_name);
}

std::vector<int32_t> Engine::render_prompt(const Json& messages) const {
    if (template_text_.empty())
        fail(ErrorCode::bad_file, "{}: there is no chat template; use --raw", template_source_);
    const ChatTemplate chat_template = ChatTemplate::compile(template_text_, template_source_);
    const TokenizerData& vocabulary = tokenizer_->data();
    TemplateInput input;
    input.messages = messages;
    input.now = local_now();
    const MarkedText text = render_chat(chat_template, vocabulary, std::move(input));
    std::vector<int32_t> ids = tokenizer_->encode(text);
    // Some templates print BOS although the tokenizer adds it too; the model saw one.
    const int32_t bos = vocabulary.bos;
    if (ids.size() >= 2 && bos >= 0 && ids[0] == bos && ids[1] == bos) ids.erase(ids.begin());
    return ids;
}

std::vector<int32_t> Engine::raw_prompt(std::string_view text) const {
    return tokenizer_->encode(text, true);
}

GenerateResult Engine::generate(Session& session, const std::vector<int32_t>& prompt,
                                const GenerateOptions& options, const OnText& on_text,
                                const Session::Cancelled& cancelled) const {
    if (prompt.empty()) fail(ErrorCode::usage, "the prompt is empty");
    return Generation(*tokenizer_, session, options, on_text).run(prompt, cancelled);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_path) {
    const ModelFile file = ModelFile::open(model_path);
    return Tokenizer::create(tokenizer_from_gguf(file), file.path());
}

MarkedText render_chat(const ChatTemplate& chat_template, const TokenizerData& vocabulary,
                       TemplateInput input) {
    const auto add_token = [&](const char* name, int32_t id) {
        const bool given = std::ranges::count(input.variables, name, &Json::Member::first) > 0;
        if (!given && id >= 0)
            input.variables.emplace_back(name, vocabulary.tokens[static_cast<size_t>(id)]);
    };
    add_token("bos_token", vocabulary.bos);
    add_token("eos_token", vocabulary.eos);
    return chat_template.render(input);
}

std::tm local_now() {
    const std::time_t now = std::time(nullptr);
    std::tm local = {};
    ::localtime_r(&now, &local);
    return local;
}

}  // namespace nemo
