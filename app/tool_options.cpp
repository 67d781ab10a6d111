#include "app/tool_options.h"

#include "app/option_parts.h"

#include <CLI/CLI.hpp>

namespace nemo {

namespace {

constexpr const char* kTokenizeNotes = R"(Examples:
  nemo-cli tokenize -m model.gguf -p "Hello world" --pieces
  nemo-cli tokenize -m model.gguf < text.txt)";

constexpr const char* kRenderNotes = R"(Examples:
  nemo-cli render -m model.gguf --messages chat.json
  nemo-cli render --template new.jinja --messages chat.json --kwargs '{"enable_thinking": false}')";

constexpr const char* kEvalNotes = R"(Example:
  nemo-cli eval -m model.gguf --tokens 1,5,9 --logits logits.f32)";

constexpr const char* kPerplexityNotes = R"(Examples:
  nemo-cli perplexity -m model.gguf -f text.txt
  nemo-cli perplexity -m f16.gguf -f text.txt --kl-base predictions.bin
  nemo-cli perplexity -m q4.gguf --kl predictions.bin

--kl prints the KL divergence of the predictions from those in the file, how often the most
probable token is the same, and the ratio of the perplexities.)";

constexpr const char* kInfoNotes = R"(Example:
  nemo-cli info model.gguf -c 32768 -ctk q8_0)";

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

}  // namespace

CLI::App* define_tokenize(CLI::App& app, TokenizeCommand& command) {
    CLI::App* sub = app.add_subcommand("tokenize", "Print the token ids of a text");
    add_model_option(*sub, command.model)->required();
    add_prompt_options(*sub, "text", command.prompt, command.prompt_file);
    sub->get_option("--file")->excludes("--prompt");
    sub->add_flag("--special", command.special, "Recognise control tokens in the text");
    sub->add_flag("--no-bos", command.no_bos, "Add neither BOS nor EOS");
    sub->add_flag("--pieces", command.pieces, "One token per line, with its text");
    sub->footer(kTokenizeNotes);
    return sub;
}

CLI::App* define_render(CLI::App& app, RenderCommand& command) {
    CLI::App* sub =
        app.add_subcommand("render", "Print messages as the chat template renders them");
    CLI::Option* model = add_model_option(*sub, command.model);
    CLI::Option* source = sub->add_option("--template", command.template_file,
                                          "A template file instead of the model's own")
                              ->type_name("FILE");
    sub->add_option("--messages", command.messages_file, "JSON array of {role, content}")
        ->type_name("FILE")
        ->required();
    sub->add_option("--tools", command.tools_file, "JSON array of tools")->type_name("FILE");
    sub->add_option("--kwargs", command.kwargs, "Template variables, a JSON object")
        ->type_name("JSON");
    sub->add_option("--now", command.now, "The clock of strftime_now")->type_name("ISO_TIME");
    sub->add_flag("--no-generation-prompt", command.no_generation_prompt,
                  "End after the last message");
    sub->callback([model, source] {
        if (model->count() + source->count() == 0)
            throw CLI::ValidationError("render", "which template? Give -m or --template");
    });
    sub->footer(kRenderNotes);
    return sub;
}

CLI::App* define_eval(CLI::App& app, EvalCommand& command) {
    CLI::App* sub = app.add_subcommand("eval", "Write the logits of given tokens");
    add_model_option(*sub, command.model)->required();
    sub->add_option("--tokens", command.tokens, "Token ids, separated by commas")
        ->type_name("N,...")
        ->required();
    sub->add_option("--logits", command.logits_file, "Output: float32 [n_tokens, n_vocab]")
        ->type_name("FILE")
        ->required();
    sub->add_flag("--force", command.force, "Replace an existing file");
    sub->add_option("--chunk", command.chunk, "Tokens taken in at once")
        ->check(whole_number(1, 65536))
        ->type_name("N");
    add_thread_option(*sub, command.threads);
    add_cache_options(*sub, command.kv_types);
    sub->footer(kEvalNotes);
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
        ->check(whole_number(8, 1 << 20))
        ->type_name("N");
    sub->add_option("--chunks", command.n_chunks, "Only the first N chunks")
        ->check(whole_number(1))
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
            throw CLI::ValidationError("perplexity", "of which text? Give -f or --kl");
    });
    sub->footer(kPerplexityNotes);
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
        ->check(whole_number(8, 1 << 20))
        ->type_name("N");
    sub->add_option("--chunks", command.n_chunks, "Only the first N chunks")
        ->check(whole_number(1))
        ->type_name("N");
    sub->add_option("--sensitivity", command.n_sensitivity_chunks,
                    "Also measure how much errors in each class of tensors hurt, on N chunks "
                    "(4 to 8 are enough; each takes as long as reading it 10 to 15 times)")
        ->check(whole_number(1))
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
            ->check(whole_number(0, int64_t{1} << 30))
            ->type_name("N,...");
    };
    add_list("-p,--n-prompt", command.prompts, "Read prompts of N tokens (default: 512)");
    add_list("-n,--n-gen", command.generations, "Write N tokens one by one (default: 128)");
    add_list("-d,--n-depth", command.depths, "After N tokens of context (default: 0)");
    sub->add_option("-b,--batch-size", command.chunk, "Prompt tokens taken in at once")
        ->check(whole_number(1, 65536))
        ->type_name("N");
    sub->add_option("-r,--repetitions", command.n_repetitions, "Repetitions of each test")
        ->check(whole_number(1, 1000))
        ->type_name("N");
    sub->add_option("-o,--output", command.format, "md, json or csv")
        ->check(CLI::IsMember({"md", "json", "csv"}).description(""))
        ->type_name("FORMAT");
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
    sub->add_option("model,-m,--model", command.model, "The model, a GGUF file")
        ->type_name("FILE")
        ->required();
    sub->add_option("-c,--ctx-size", command.n_context, "Context length of the memory estimate")
        ->check(whole_number(1, int64_t{1} << 40))
        ->type_name("N");
    add_cache_options(*sub, command.kv_types);
    sub->footer(kInfoNotes);
    return sub;
}

}  // namespace nemo
