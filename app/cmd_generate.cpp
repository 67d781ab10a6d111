// nemo-cli without a subcommand: answers one prompt. Standard output carries the answer only.
#include "app/commands.h"
#include "app/engine.h"
#include "app/prompt_input.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/progress_line.h"

#include <random>

namespace nemo {

namespace {

SamplerParams sampling(const GenerateCommand& command, SamplerParams params) {
    const auto override_with = [](auto& value, const auto& option) {
        if (option) value = *option;
    };
    override_with(params.temperature, command.temperature);
    override_with(params.top_k, command.top_k);
    override_with(params.top_p, command.top_p);
    override_with(params.min_p, command.min_p);
    override_with(params.repetition_penalty, command.repetition_penalty);
    override_with(params.presence_penalty, command.presence_penalty);
    override_with(params.frequency_penalty, command.frequency_penalty);
    params.seed = command.seed >= 0 ? static_cast<uint64_t>(command.seed) : std::random_device{}();
    return params;
}

std::vector<int32_t> make_prompt(const GenerateCommand& command, const Engine& engine) {
    const std::string text = gather_prompt(command.prompt, command.prompt_file, command.quiet);
    if (command.raw) return engine.raw_prompt(text);
    Json::Array messages;
    if (!command.system.empty())
        messages.push_back(Json::Object{{"role", "system"}, {"content", command.system}});
    messages.push_back(Json::Object{{"role", "user"}, {"content", text}});
    return engine.render_prompt(messages);
}

double per_second(int64_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

void print_statistics(const GenerateResult& result) {
    write_stderr(fmt::format(
        "nemo-cli: read {} tokens in {:.2f} s ({:.1f}/s), wrote {} in {:.2f} s ({:.1f}/s), {}\n",
        result.n_prompt, result.prompt_seconds, per_second(result.n_prompt, result.prompt_seconds),
        result.n_generated, result.generate_seconds,
        per_second(result.n_generated, result.generate_seconds),
        finish_reason_name(result.reason)));
}

// How far a long prompt is read; wipes the line once all of it is.
void show_progress(std::optional<ProgressLine>& line, int64_t n_read, int64_t n_prompt) {
    constexpr double kPatienceSeconds = 1.0;
    if (n_read >= n_prompt) {
        line.reset();
    } else if (n_read > 0 && line->seconds() > kPatienceSeconds && line->due()) {
        const double rate = per_second(n_read, line->seconds());
        line->show(fmt::format("reading the prompt: {:3.0f}%, {:.0f} tokens/s, {:.0f} s left",
                               100.0 * static_cast<double>(n_read) / static_cast<double>(n_prompt),
                               rate, static_cast<double>(n_prompt - n_read) / rate));
    }
}

// Names as llama-server has them.
Json timings_json(const GenerateResult& result) {
    return Json::Object{
        {"cache_n", 0},
        {"prompt_n", result.n_prompt},
        {"prompt_ms", result.prompt_seconds * 1e3},
        {"prompt_per_second", per_second(result.n_prompt, result.prompt_seconds)},
        {"predicted_n", result.n_generated},
        {"predicted_ms", result.generate_seconds * 1e3},
        {"predicted_per_second", per_second(result.n_generated, result.generate_seconds)},
    };
}

// A thinking model's answer is "reasoning</think>answer"; the opening mark may stand in the prompt.
std::string result_json(const GenerateResult& result) {
    constexpr std::string_view kOpen = "<think>";
    constexpr std::string_view kClose = "</think>";
    std::string text = result.text;
    std::string reasoning;
    if (const size_t end = text.find(kClose); end != std::string::npos) {
        const size_t start = text.starts_with(kOpen) ? kOpen.size() : 0;
        reasoning = text.substr(start, end - start);
        text.erase(0, end + kClose.size());
    }
    return to_json_text(Json::Object{{"text", std::move(text)},
                                     {"reasoning", std::move(reasoning)},
                                     {"finish_reason", finish_reason_name(result.reason)},
                                     {"timings", timings_json(result)}}) +
           "\n";
}

int exit_status(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop:
        case FinishReason::length:
            return 0;
        case FinishReason::context_full:
            return static_cast<int>(ErrorCode::context_full);
        case FinishReason::cancelled:
            return static_cast<int>(ErrorCode::interrupted);
    }
    return 0;
}

}  // namespace

int run_generate(const GenerateCommand& command) {
    Engine engine(command.model, command.threads, command.load);
    if (!command.template_file.empty())
        engine.set_chat_template(read_text_file(command.template_file), command.template_file);
    const std::vector<int32_t> prompt = make_prompt(command, engine);
    Session session(engine.model(), {.n_context = command.n_context, .kv_types = command.kv_types});
    const GenerateOptions options = {.sampling = sampling(command, engine.default_sampling()),
                                     .max_tokens = command.max_tokens,
                                     .stop_strings = command.stop_strings};
    const bool to_terminal = stdout_is_terminal();
    const auto on_text = [&](std::string_view text) {
        if (!command.json) write_stdout(to_terminal ? terminal_safe(text) : std::string(text));
    };
    std::optional<ProgressLine> progress;
    if (!command.quiet) progress.emplace();
    const auto cancelled = [&] {
        if (progress) show_progress(progress, session.state().position(), std::ssize(prompt));
        return interrupted();
    };
    const GenerateResult result = engine.generate(session, prompt, options, on_text, cancelled);
    write_stdout(command.json ? result_json(result) : "\n");
    if (!command.quiet && (command.verbose || stderr_is_terminal())) print_statistics(result);
    if (!command.quiet && result.reason == FinishReason::context_full)
        write_stderr(
            fmt::format("nemo-cli: the context of {} tokens is full\n", session.n_context()));
    return exit_status(result.reason);
}

}  // namespace nemo
