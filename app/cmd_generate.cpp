// nemo-cli without a subcommand: answers one prompt. Standard output carries the answer only.
#include "app/answer_printer.h"
#include "app/commands.h"
#include "app/engine.h"
#include "app/prompt_input.h"
#include "app/prompt_progress.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"

namespace nemo {

namespace {

ChatPrompt make_prompt(const GenerateCommand& command, const Engine& engine) {
    const std::string text = gather_prompt(command.prompt, command.prompt_file, command.quiet);
    if (command.raw) return engine.raw_prompt(text);
    Json::Array messages;
    if (!command.system.empty())
        messages.push_back(Json::Object{{"role", "system"}, {"content", command.system}});
    messages.push_back(Json::Object{{"role", "user"}, {"content", text}});
    return engine.chat_prompt(
        messages, {.thinking = command.answer.effective_thinking(), .now = local_now()});
}

double per_second(int64_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

void print_statistics(const GenerateResult& result) {
    write_stderr(fmt::format(
        "nemo-cli: read {} tokens in {:.2f} s ({:.1f}/s), wrote {} in {:.2f} s ({:.1f}/s), "
        "guessed {} ({} right), {}\n",
        result.n_read, result.prompt_seconds, per_second(result.n_read, result.prompt_seconds),
        result.n_generated, result.generate_seconds,
        per_second(result.n_generated, result.generate_seconds), result.n_drafted,
        result.n_accepted, finish_reason_name(result.reason)));
}

// Names as llama-server has them.
Json timings_json(const GenerateResult& result) {
    return Json::Object{
        {"cache_n", result.n_reused},
        {"prompt_n", result.n_read},
        {"prompt_ms", result.prompt_seconds * 1e3},
        {"prompt_per_second", per_second(result.n_read, result.prompt_seconds)},
        {"predicted_n", result.n_generated},
        {"predicted_ms", result.generate_seconds * 1e3},
        {"predicted_per_second", per_second(result.n_generated, result.generate_seconds)},
        {"draft_n", result.n_drafted},
        {"draft_n_accepted", result.n_accepted},
    };
}

std::string result_json(const GenerateResult& result) {
    return to_json_text(Json::Object{{"text", result.text},
                                     {"reasoning", result.reasoning},
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
    const ModelOptions& model = command.model;
    Engine engine(model.path, model.threads, model.load);
    if (model.no_speculation) engine.set_speculation(SpeculationMode::off);
    if (!model.template_file.empty())
        engine.set_chat_template(read_text_file(model.template_file), model.template_file);
    ChatPrompt prompt = make_prompt(command, engine);
    prompt.checkpoints.clear();  // nobody comes back to any
    Session session(
        engine.model(),
        {.n_context = model.n_context, .kv_types = model.kv_types, .checkpoint_interval = 0});
    GenerateOptions options = command.answer.generate_options(engine.default_sampling());
    options.stop_strings = command.stop_strings;
    AnswerPrinter printer(!command.hide_thinking && !command.quiet);
    const auto on_text = [&](TextPart part, std::string_view text) {
        if (!command.json) printer.show(part, text);
    };
    PromptProgress progress(!command.quiet);
    options.on_prompt = [&](int64_t n_done, int64_t n_prompt) { progress.show(n_done, n_prompt); };
    const GenerateResult result = engine.generate(session, prompt, options, on_text, interrupted);
    if (command.json)
        write_stdout(result_json(result));
    else
        printer.finish();
    if (!command.quiet && (command.verbose || stderr_is_terminal())) print_statistics(result);
    if (!command.quiet && result.reason == FinishReason::context_full)
        write_stderr(
            fmt::format("nemo-cli: the context of {} tokens is full\n", session.n_context()));
    return exit_status(result.reason);
}

}  // namespace nemo
