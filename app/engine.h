// A model file made usable: weights, tokenizer, chat template and sampling defaults together. The
// one entry point of the programs into everything below.
#pragma once

#include "app/load_model.h"
#include "core/chat_template.h"
#include "core/sampler.h"
#include "core/tokenizer.h"
#include "kernels/backend.h"
#include "models/model.h"
#include "models/session.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct GenerateOptions {
    SamplerParams sampling;
    int64_t max_tokens = -1;  // -1: until the model stops or the context is full
    std::vector<std::string> stop_strings;
};

enum class FinishReason { stop, length, context_full, cancelled };
const char* finish_reason_name(FinishReason reason);

struct GenerateResult {
    std::string text;
    FinishReason reason = FinishReason::stop;
    int64_t n_prompt = 0;     // tokens read
    int64_t n_generated = 0;  // tokens sampled, the one that ended the answer included
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

    // Replaces the file's own template; it is compiled when a prompt is rendered.
    void set_chat_template(std::string text, std::string source_name);

    // Messages [{role, content}, ...] through the chat template, ready for an answer. Throws
    // Error{bad_file} if there is no template or it refuses the messages.
    std::vector<int32_t> render_prompt(const Json& messages) const;
    // Text as it is, control tokens recognised.
    std::vector<int32_t> raw_prompt(std::string_view text) const;

    // Called with whole UTF-8 only, as text becomes final.
    using OnText = std::function<void(std::string_view)>;
    // Appends the prompt to the session and generates. `cancelled` is asked before every token and
    // every prompt chunk. Throws Error{context_full} if the prompt does not fit, Error{usage} if it
    // is empty.
    GenerateResult generate(Session& session, const std::vector<int32_t>& prompt,
                            const GenerateOptions& options, const OnText& on_text,
                            const Session::Cancelled& cancelled) const;

private:
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::string template_text_;
    std::string template_source_;
    SamplerParams default_sampling_;
};

// The tokenizer and template alone, without looking at the weights.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_path);

// bos_token and eos_token come from the vocabulary unless the input has them as variables.
MarkedText render_chat(const ChatTemplate& chat_template, const TokenizerData& vocabulary,
                       TemplateInput input);

// Local time.
std::tm local_now();

}  // namespace nemo
