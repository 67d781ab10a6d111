#include "app/cli_options.h"

#include "app/chats_options.h"
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

constexpr const char* kImatrixNotes =
    R"(Importance: the mean of x^2 for every input column of every matrix of the layers, per expert
for mixtures of experts, over all tokens of the text. The text should be like what the model
is for; 100 chunks are plenty. Use the least quantized file there is.
Sensitivity: all tensors of a class are rounded to Q4_0, and the mean KL divergence of the
predictions from those of the unchanged model is divided by the sum of the tensors' relative
errors, sum w (x - q)^2 / sum w x^2 with w the importance. nemo-convert predicts from it what
a choice of types costs: KL = sum over tensors of sensitivity * relative error.)";

constexpr const char* kBenchNotes =
    R"(pp512: a prompt of 512 tokens is read. tg128: 128 tokens are written one by one.
@d4096: after 4096 tokens of context, which are not timed. Tokens are random, and a warm-up
is not counted. Mean and standard deviation of the repetitions, and the best.
--ops: bytes are those of weights, cache rows and states that the operation must move.)";

// llama.cpp's spellings with one dash, which CLI11 would take for clusters of one-letter options.
std::string normalize(const std::string& argument) {
    constexpr std::array<std::pair<const char*, const char*>, 3> kSpellings = {
        {{"-sys", "--sys"}, {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}}};
    for (const auto& [from, to] : kSpellings)
        if (argument == from) return to;
    return argument;
}

// Without the limits in --help, where they would hide the text.
template <class T>
CLI::Validator between(T low, T high) {
    return CLI::Range(low, high).description("");
}

void add_prompt_options(CLI::App& app, std::optional<std::string>& prompt, std::string& file) {
    app.add_option("-p,--prompt", prompt, "The prompt")->type_name("TEXT");
    app.add_option("-f,--file", file, "Read the prompt from a file (- is standard input)")
        ->type_name("FILE");
}

CLI::Option* add_model_option(CLI::App& app, std::string& model) {
    return app.add_option("-m,--model", model, "The model, a GGUF file")->type_name("FILE");
}

void add_thread_option(CLI::App& app, int& threads) {
    app.add_option("-t,--threads", threads, "Threads (0: one per core)")->check(between(0, 1024));
}

void add_load_options(CLI::App& app, LoadOptions& options) {
    app.add_flag("--preload", options.preload, "Read the whole model in before starting");
    app.add_flag("--mlock", options.lock, "The same, and keep it in memory");
}

void add_cache_options(CLI::App& app, KvTypes& types) {
    const auto add = [&](const char* name, DType& type, const char* help) {
        const auto set = [&type](const std::string& value) {
            type = value == "f32" ? DType::f32 : value == "f16" ? DType::f16 : DType::q8_0;
        };
        app.add_option_function<std::string>(name, set, help)
            ->check(CLI::IsMember({"f32", "f16", "q8_0"}).description(""))
            ->type_name("TYPE");
    };
    add("--cache-type-k", types.keys, "Keep keys as f32, f16 (default) or q8_0 (also -ctk)");
    add("--cache-type-v", types.values, "Keep values as f32, f16 (default) or q8_0 (also -ctv)");
}

// A model to talk to.
void add_session_options(CLI::App& app, ModelOptions& model) {
    add_model_option(app, model.path);
    app.add_option("-c,--ctx-size", model.n_context, "Most tokens in all (0: as trained)")
        ->check(between(int64_t{0}, INT64_MAX));
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
        ->check(between(int64_t{-1}, INT64_MAX))
        ->type_name("N")
        ->group(group);
    app.add_flag("--hide-thinking,--hidethinking", hide_thinking,
                 "Do not show thoughts (on a terminal they are on standard error, dimmed)")
        ->group(group);
}

void add_answer_options(CLI::App& app, AnswerSettings& answer) {
    app.add_option("-n,--predict", answer.max_tokens, "Most tokens to write (-1: no limit)")
        ->check(between(int64_t{-1}, INT64_MAX));
    const auto add = [&](const char* name, auto& value, const char* help) {
        app.add_option(name, value, help)->group("Sampling (default: what the model advises)");
    };
    add("--temp", answer.temperature, "Temperature, 0 for the most probable token");
    add("--top-k", answer.top_k, "Only the K most probable tokens, 0 for all");
    add("--top-p", answer.top_p, "Only the most probable tokens that sum up to P");
    add("--min-p", answer.min_p, "Only tokens at least P times as probable as the best");
    add("--repeat-penalty", answer.repetition_penalty, "Divide logits of recent tokens, 1: off");
    add("--presence-penalty", answer.presence_penalty, "Subtract from tokens that occurred");
    add("--frequency-penalty", answer.frequency_penalty, "Subtract per occurrence");
    add("-s,--seed", answer.seed, "Random seed, -1 for a new one every time");
}

void define_generate(CLI::App& app, GenerateCommand& command) {
    add_session_options(app, command.model);
    add_prompt_options(app, command.prompt, command.prompt_file);
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
    CLI::Option* chat = sub->add_option("--chat", command.chat, "Go on with this chat")
                            ->check(between(int64_t{1}, INT64_MAX))
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

CLI::App* define_tokenize(CLI::App& app, TokenizeCommand& command) {
    CLI::App* sub = app.add_subcommand("tokenize", "Print the token ids of a text");
    add_model_option(*sub, command.model)->required();
    add_prompt_options(*sub, command.prompt, command.prompt_file);
    sub->add_flag("--special", command.special, "Recognise control tokens in the text");
    sub->add_flag("--no-bos", command.no_bos, "Add neither BOS nor EOS");
    sub->add_flag("--pieces", command.pieces, "One token per line, with its text");
    return sub;
}

CLI::App* define_render(CLI::App& app, RenderCommand& command) {
    CLI::App* sub =
        app.add_subcommand("render", "Print messages as the chat template renders them");
    CLI::Option* model = add_model_option(*sub, command.model);
    CLI::Option* source = sub->add_option("--template", command.template_file,
                                          "A template file instead of the model's own");
    sub->add_option("--messages", command.messages_file, "JSON array of {role, content}")
        ->type_name("FILE")
        ->required();
    sub->add_option("--tools", command.tools_file, "JSON array of tools")->type_name("FILE");
    sub->add_option("--kwargs", command.kwargs, "Template variables, a JSON object");
    sub->add_option("--now", command.now, "The clock of strftime_now")->type_name("ISO_TIME");
    sub->add_flag("--no-generation-prompt", command.no_generation_prompt,
                  "End after the last message");
    sub->callback([model, source] {
        if (model->count() + source->count() == 0)
            throw CLI::RequiredError("render needs -m or --template");
    });
    return sub;
}

CLI::App* define_eval(CLI::App& app, EvalCommand& command) {
    CLI::App* sub = app.add_subcommand("eval", "Write the logits of given tokens");
    add_model_option(*sub, command.model)->required();
    sub->add_option("--tokens", command.tokens, "Token ids, separated by commas")->required();
    sub->add_option("--logits", command.logits_file, "Output: float32 [n_tokens, n_vocab]")
        ->type_name("FILE")
        ->required();
    sub->add_option("--chunk", command.chunk, "Tokens taken in at once")->check(between(1, 65536));
    add_thread_option(*sub, command.threads);
    add_cache_options(*sub, command.kv_types);
    return sub;
}

CLI::App* define_perplexity(CLI::App& app, PerplexityCommand& command) {
    CLI::App* sub = app.add_subcommand(
        "perplexity", "Measure how well a model predicts a text, or how far it is from another");
    add_model_option(*sub, command.model)->required();
    CLI::Option* text =
        sub->add_option("-f,--file", command.text_file, "The text (- is standard input)")
            ->type_name("FILE");
    sub->add_option("-c,--ctx-size", command.n_context,
                    "Tokens per chunk, of which the second half is scored (default: 512)")
        ->check(between(8, 1 << 20));
    sub->add_option("--chunks", command.n_chunks, "Only the first N chunks")
        ->check(between(int64_t{1}, INT64_MAX))
        ->type_name("N");
    CLI::Option* base_out = sub->add_option("--kl-base", command.base_out,
                                            "Also write the model's predictions to this file")
                                ->type_name("FILE");
    CLI::Option* base_in =
        sub->add_option("--kl", command.base_in,
                        "Compare with the predictions in this file, over its text (-f not needed)")
            ->type_name("FILE");
    base_out->excludes(base_in);
    sub->add_flag("--special", command.special, "Recognise control tokens in the text");
    add_thread_option(*sub, command.threads);
    add_cache_options(*sub, command.kv_types);
    add_load_options(*sub, command.load);
    sub->callback([text, base_in] {
        if (text->count() + base_in->count() == 0)
            throw CLI::RequiredError("perplexity needs -f or --kl");
    });
    return sub;
}

CLI::App* define_imatrix(CLI::App& app, ImatrixCommand& command) {
    CLI::App* sub = app.add_subcommand(
        "imatrix", "Measure on a text what a model's weights need to be quantized well");
    add_model_option(*sub, command.model)->required();
    sub->add_option("-f,--file", command.text_file, "The text (- is standard input)")
        ->type_name("FILE")
        ->required();
    sub->add_option("-o,--output", command.output,
                    "The importance matrix, for nemo-convert --imatrix and llama-quantize")
        ->type_name("FILE")
        ->required();
    sub->add_option("-c,--ctx-size", command.n_context, "Tokens per chunk (default: 512)")
        ->check(between(8, 1 << 20));
    sub->add_option("--chunks", command.n_chunks, "Only the first N chunks")
        ->check(between(int64_t{1}, INT64_MAX))
        ->type_name("N");
    sub->add_option("--sensitivity", command.n_sensitivity_chunks,
                    "Also measure how much errors in each class of tensors hurt, on N chunks "
                    "(4 to 8 are enough; each takes as long as reading it 10 to 15 times)")
        ->check(between(int64_t{1}, INT64_MAX))
        ->type_name("N");
    sub->add_flag("--process-output", command.process_output, "Collect output.weight too");
    sub->add_flag("--force", command.force, "Replace an existing file");
    sub->add_flag("--special", command.special, "Recognise control tokens in the text");
    add_thread_option(*sub, command.threads);
    sub->footer(kImatrixNotes);
    return sub;
}

CLI::App* define_bench(CLI::App& app, BenchCommand& command) {
    CLI::App* sub = app.add_subcommand("bench", "Measure tokens per second, as llama-bench does");
    add_model_option(*sub, command.model)->required();
    const auto add_list = [&](const char* name, std::vector<int64_t>& values, const char* help) {
        sub->add_option(name, values, help)
            ->delimiter(',')
            ->check(between(int64_t{0}, int64_t{1} << 30))
            ->type_name("N,...");
    };
    add_list("-p,--n-prompt", command.prompts, "Read prompts of N tokens (default: 512)");
    add_list("-n,--n-gen", command.generations, "Write N tokens one by one (default: 128)");
    add_list("-d,--n-depth", command.depths, "After N tokens of context (default: 0)");
    sub->add_option("-b,--batch-size", command.chunk, "Prompt tokens taken in at once")
        ->check(between(1, 65536));
    sub->add_option("-r,--repetitions", command.n_repetitions, "Repetitions of each test")
        ->check(between(1, 1000));
    sub->add_option("-o,--output", command.format, "md, json or csv")
        ->check(CLI::IsMember({"md", "json", "csv"}));
    sub->add_flag("--ops", command.ops,
                  "Also the time of each operation, beside what the machine can do at most");
    add_thread_option(*sub, command.threads);
    add_cache_options(*sub, command.kv_types);
    add_load_options(*sub, command.load);
    sub->footer(kBenchNotes);
    return sub;
}

CLI::App* define_info(CLI::App& app, InfoCommand& command) {
    CLI::App* sub = app.add_subcommand("info", "Print what a model file holds");
    sub->add_option("model", command.model, "The model, a GGUF file")
        ->type_name("FILE")
        ->required();
    sub->add_option("-c,--ctx-size", command.n_context, "Context length of the memory estimate")
        ->check(between(int64_t{1}, int64_t{1} << 40));
    add_cache_options(*sub, command.kv_types);
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
