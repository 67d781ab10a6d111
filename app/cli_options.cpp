#include "app/cli_options.h"

#include "app/chats_options.h"
#include "app/option_parts.h"
#include "app/tool_options.h"
#include "core/byte_size.h"
#include "core/console.h"
#include "core/error.h"
#include "core/version.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

namespace nemo {

namespace {

constexpr const char* kExamples = R"(Examples:
  echo "What is Mamba?" | nemo-cli -m model.gguf
  nemo-cli -m model.gguf -p "Summarise this" < notes.txt
  nemo-cli -m model.gguf -sys "Answer in French." -p "Good morning" --temp 0
  nemo-cli -m model.gguf --raw -p "Once upon a time" -n 100
  nemo-cli chat -m model.gguf
  nemo-cli info model.gguf
  nemo-cli perplexity -m model.gguf -f text.txt

Piped text comes before -p. The answer, and nothing else, goes to standard output.
Exit status: 0 ok, 1 failure, 2 usage, 3 bad model or file, 4 out of memory,
5 context full, 130 interrupted (Ctrl-C), 141 reader closed the pipe.)";

constexpr const char* kChatNotes =
    R"(In the chat, /help lists the commands: /regen, /edit, /undo, /tree, /branch, /think, /set, ...
Ctrl-C stops an answer and keeps it, Ctrl-D leaves. A message is saved before it is answered, an
answer while it is written. -m is not needed with --chat and --continue. If standard input is not
a terminal, each line is a message, and standard output carries the answers only.
Settings given here stay with the chat.)";

// llama.cpp's spellings with one dash, which CLI11 would take for clusters of one-letter options.
std::string normalize(const std::string& argument) {
    constexpr std::array<std::pair<const char*, const char*>, 3> kSpellings = {
        {{"-sys", "--sys"}, {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}}};
    for (const auto& [from, to] : kSpellings)
        if (argument == from) return to;
    return argument;
}

// A model to talk to.
void add_session_options(CLI::App& app, ModelOptions& model) {
    add_model_option(app, model.path);
    app.add_option("-c,--ctx-size", model.n_context, "Most tokens in all (0: as trained)")
        ->check(whole_number(0))
        ->type_name("N");
    app.add_option("--chat-template-file", model.template_file,
                   "Use this chat template instead of the model's own")
        ->type_name("FILE");
    add_thread_option(app, model.threads);
    add_cache_options(app, model.kv_types);
    add_load_options(app, model.load);
    app.add_flag("--no-speculate", model.no_speculation,
                 "Do not guess ahead where a text repeats itself; answers are the same");
}

void add_thinking_options(CLI::App& app, AnswerSettings& answer, bool& hide_thinking) {
    const std::string group = "Thinking";
    const auto set = [&answer](const std::string& name) {
        answer.thinking = thinking_from_name(name);
    };
    app.add_option_function<std::string>("--think,--reasoning", set,
                                         "on, off or auto (default: as the model's template)")
        ->check(CLI::IsMember({"on", "off", "auto"}).description(""))
        ->type_name("MODE")
        ->group(group);
    app.add_option("--reasoning-budget", answer.reasoning_budget,
                   "End a thought after N tokens (0: no thinking, -1: no limit)")
        ->check(whole_number(-1))
        ->type_name("N")
        ->group(group);
    app.add_flag("--hide-thinking,--hidethinking", hide_thinking,
                 "Do not show thoughts (on a terminal they are on standard error, dimmed)")
        ->group(group);
}

StateCoding state_coding_from_name(std::string_view name) {
    return name == "int16"  ? StateCoding::int16
           : name == "int8" ? StateCoding::int8
                            : StateCoding::exact;
}

void add_answer_options(CLI::App& app, AnswerSettings& answer) {
    app.add_option("-n,--predict", answer.max_tokens, "Most tokens to write (-1: no limit)")
        ->check(whole_number(-1))
        ->type_name("N");
    const auto add = [&](const char* name, auto& value, const char* type, const char* help) {
        return app.add_option(name, value, help)
            ->type_name(type)
            ->group("Sampling (default: what the model advises)");
    };
    const auto add_real = [&](const char* name, std::optional<float>& value, const char* type,
                              const char* help) {
        add(name, value, type, help)->check(real_number());
    };
    add_real("--temp", answer.temperature, "T", "Temperature, 0 for the most probable token");
    add("--top-k", answer.top_k, "K", "Only the K most probable tokens, 0 for all")
        ->check(whole_number(0, INT32_MAX));
    add_real("--top-p", answer.top_p, "P", "Only the most probable tokens that sum up to P");
    add_real("--min-p", answer.min_p, "P", "Only tokens at least P times as probable as the best");
    add_real("--repeat-penalty", answer.repetition_penalty, "X",
             "Divide logits of recent tokens, 1: off");
    add_real("--presence-penalty", answer.presence_penalty, "X",
             "Subtract from tokens that occurred");
    add_real("--frequency-penalty", answer.frequency_penalty, "X", "Subtract per occurrence");
    add("-s,--seed", answer.seed, "N", "Random seed, -1 for a new one every time")
        ->check(whole_number(-1));
}

void define_generate(CLI::App& app, GenerateCommand& command) {
    add_session_options(app, command.model);
    add_prompt_options(app, "prompt", command.prompt, command.prompt_file);
    app.add_option("--sys,--system-prompt", command.system, "System prompt (also -sys)")
        ->type_name("TEXT");
    app.add_option("-r,--reverse-prompt", command.stop_strings,
                   "Stop before this text (may be repeated)")
        ->type_name("TEXT")
        ->expected(1);
    app.add_flag("--raw", command.raw,
                 "No chat template: continue the text as it is, control tokens recognised");
    app.add_flag("--json", command.json, "Print one JSON object: text, reasoning, timings");
    app.add_flag("--quiet", command.quiet, "Nothing on standard error but errors");
    app.add_flag("-v,--verbose", command.verbose, "Statistics even if it is not a terminal");
    add_thinking_options(app, command.answer, command.hide_thinking);
    add_answer_options(app, command.answer);
}

CLI::App* define_chat(CLI::App& app, ChatCommand& command) {
    CLI::App* sub = app.add_subcommand("chat", "Talk with a model; every chat is kept");
    add_session_options(*sub, command.model);
    sub->add_option_function<std::string>(
           "--state-budget",
           [&command](const std::string& text) {
               command.model.state_budget = static_cast<int64_t>(parse_byte_size(text));
           },
           "Memory for states to come back to, e.g. 2GiB (default: a quarter of what is free)")
        ->type_name("SIZE");
    sub->add_option_function<std::string>(
           "--state-form",
           [&command](const std::string& name) {
               command.model.state_form = state_coding_from_name(name);
           },
           "How the Mamba state is kept on disk until the next start: exact (default), or rounded "
           "to int16 or int8; then files are smaller and answers after a restart may differ")
        ->check(CLI::IsMember({"exact", "int16", "int8"}).description(""))
        ->type_name("FORM");
    add_chats_option(*sub, command.chats_file);
    CLI::Option* chat = sub->add_option("--chat", command.chat, "Go on with this chat")
                            ->check(whole_number(1))
                            ->type_name("NUMBER");
    sub->add_flag("--continue", command.continues, "Go on with the chat used last")->excludes(chat);
    sub->add_option("--sys,--system-prompt", command.system, "System prompt (also -sys)")
        ->type_name("TEXT");
    sub->add_flag("--quiet", command.quiet, "Nothing on standard error but errors");
    sub->add_flag("-v,--verbose", command.verbose, "Statistics even if it is not a terminal");
    add_thinking_options(*sub, command.answer, command.hide_thinking);
    add_answer_options(*sub, command.answer);
    sub->footer(kChatNotes);
    return sub;
}

}  // namespace

ParsedCommandLine parse_command_line(const std::vector<std::string>& arguments) {
    CLI::App app("Runs hybrid Mamba-2/Transformer language models: a prompt in, the answer out.",
                 "nemo-cli");
    app.footer(kExamples);
    app.set_version_flag("--version", std::string("nemo-cli ") + kVersion);
    app.require_subcommand(0, 1);
    GenerateCommand generate;
    ChatCommand chat;
    TokenizeCommand tokenize;
    RenderCommand render;
    EvalCommand eval;
    PerplexityCommand perplexity;
    ImatrixCommand imatrix;
    BenchCommand bench;
    InfoCommand info;
    ChatsCommand chats;
    define_generate(app, generate);
    const CLI::App* chat_app = define_chat(app, chat);
    const CLI::App* tokenize_app = define_tokenize(app, tokenize);
    const CLI::App* render_app = define_render(app, render);
    const CLI::App* eval_app = define_eval(app, eval);
    const CLI::App* perplexity_app = define_perplexity(app, perplexity);
    const CLI::App* imatrix_app = define_imatrix(app, imatrix);
    const CLI::App* bench_app = define_bench(app, bench);
    const CLI::App* info_app = define_info(app, info);
    const CLI::App* chats_app = define_chats(app, chats);

    ParsedCommandLine parsed;
    std::vector<std::string> reversed;  // the order CLI11 wants
    std::ranges::transform(arguments, std::back_inserter(reversed), normalize);
    std::ranges::reverse(reversed);
    try {
        app.parse(std::move(reversed));
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        std::ostringstream ignored;
        const bool success = app.exit(error, out, ignored) == 0;
        parsed.exit_status = success ? 0 : static_cast<int>(ErrorCode::usage);
        parsed.message = success ? out.str()
                                 : fmt::format("nemo-cli: {}; --help says more\n",
                                               terminal_safe_line(error.what()));
        return parsed;
    }
    if (chat_app->parsed())
        parsed.command = chat;
    else if (tokenize_app->parsed())
        parsed.command = tokenize;
    else if (render_app->parsed())
        parsed.command = render;
    else if (eval_app->parsed())
        parsed.command = eval;
    else if (perplexity_app->parsed())
        parsed.command = perplexity;
    else if (imatrix_app->parsed())
        parsed.command = imatrix;
    else if (bench_app->parsed())
        parsed.command = bench;
    else if (info_app->parsed())
        parsed.command = info;
    else if (chats_app->parsed())
        parsed.command = chats;
    else
        parsed.command = generate;
    if (std::holds_alternative<GenerateCommand>(parsed.command) && generate.model.path.empty()) {
        parsed.exit_status = static_cast<int>(ErrorCode::usage);
        parsed.message = "nemo-cli: which model? Give -m MODEL.gguf, or --help for more\n";
    }
    return parsed;
}

}  // namespace nemo
