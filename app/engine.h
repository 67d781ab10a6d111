// A model file made usable: weights, tokenizer, chat template and sampling defaults together. The
// one entry point of the programs into everything below.
#pragma once

#include "app/chat_prompt.h"
#include "app/load_model.h"
#include "app/reasoning.h"
#include "core/sampler.h"
#include "core/tokenizer.h"
#include "kernels/backend.h"
#include "models/model.h"
#include "models/session.h"
#include "models/speculation.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct GenerateOptions {
    SamplerParams sampling;
    int64_t max_tokens = -1;  // -1: until the model stops or the context is full
    std::vector<std::string> stop_strings;
    int64_t reasoning_budget = -1;  // tokens after which a thought is closed, -1: never
    // Called before each chunk of the prompt is read, and once it has ended.
    std::function<void(int64_t n_done, int64_t n_prompt)> on_prompt;
};

enum class FinishReason { stop, length, context_full, cancelled };
const char* finish_reason_name(FinishReason reason);

struct GenerateResult {
    std::string text;       // the answer
    std::string reasoning;  // the thought before it
    FinishReason reason = FinishReason::stop;
    int64_t n_reused = 0;     // prompt tokens that the session knew
    int64_t n_read = 0;       // those it had to read
    int64_t n_generated = 0;  // the thought's and the one that ended the answer included
    int64_t n_drafted = 0;    // tokens guessed and run ahead of their choice
    int64_t n_accepted = 0;   // those of them that were then chosen
    double prompt_seconds = 0;
    double generate_seconds = 0;
};

class Engine {
public:
    // n_threads = 0: one per core. Throws Error{usage} and what load_model_file does.
    Engine(const std::filesystem::path& model_path, int n_threads,
           const LoadOptions& load_options = {});

    const Model& model() const { return *model_; }
    const Tokenizer& tokenizer() const { return *tokenizer_; }
    // What the model's makers advise, else common defaults.
    const SamplerParams& default_sampling() const { return default_sampling_; }

    // Replaces the file's own template.
    void set_chat_template(std::string_view text, std::string source_name);
    // Whether answers are guessed ahead (models/speculation.h); at first, when it pays. What is
    // answered does not depend on it.
    void set_speculation(SpeculationMode mode) { speculation_ = mode; }
    ThinkingControl thinking_control() const { return renderer_->thinking_control(); }

    // As PromptRenderer::render.
    ChatPrompt chat_prompt(const Json& messages, const PromptOptions& options) const {
        return renderer_->render(messages, options);
    }
    // Text as it is, control tokens recognised; marks of thoughts are text too.
    ChatPrompt raw_prompt(std::string_view text) const;

    // Called with whole UTF-8 only, as text becomes final.
    using OnText = ReasoningSplitter::Sink;
    // Makes the session hold the prompt (Session::sync) and generates. `cancelled` is asked before
    // every token and every prompt chunk. Throws Error{context_full} if the prompt does not fit,
    // Error{usage} if it is empty.
    GenerateResult generate(Session& session, const ChatPrompt& prompt,
                            const GenerateOptions& options, const OnText& on_text,
                            const Session::Cancelled& cancelled) const;

private:
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::unique_ptr<const PromptRenderer> renderer_;
    SamplerParams default_sampling_;
    SpeculationMode speculation_ = SpeculationMode::when_it_pays;
};

// The tokenizer and template alone, without looking at the weights.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_path);

}  // namespace nemo
