#include "convert/convert_options.h"

#include "convert/type_mix.h"
#include "core/error.h"
#include "core/version.h"

#include <CLI/CLI.hpp>

#include <sstream>

namespace nemo {

namespace {

CLI::Validator above_zero() {
    return {[](const std::string& text) {
                double value = 0;
                const bool fits = CLI::detail::lexical_cast(text, value) && value > 0;
                return fits ? "" : text + " is no number above 0";
            },
            ""};
}

// "F32, F16, ..." in lines of a width to read.
std::string wrapped(const std::string& list, size_t width) {
    std::string text;
    size_t column = 0;
    for (const char c : list) {
        const bool breaks = c == ' ' && column >= width;
        text += breaks ? '\n' : c;
        column = breaks ? 0 : column + 1;
    }
    return text;
}

void add_thread_option(CLI::App& app, int& n_threads) {
    app.add_option("--threads,-t", n_threads, "Threads to use (default: one per core)")
        ->check(CLI::Range(1, 1024).description(""))
        ->type_name("N");
}

const CLI::App* describe_inspect(CLI::App& app, InspectCommand& command) {
    CLI::App* sub = app.add_subcommand("inspect", "Print a GGUF file's metadata and tensors");
    sub->add_option("FILE", command.file, "The GGUF file")->required()->type_name("");
    sub->add_flag("--json", command.json, "One JSON object, nothing cut short");
    sub->footer("Long arrays and texts are cut short unless --json is given.");
    return sub;
}

const CLI::App* describe_verify(CLI::App& app, VerifyCommand& command) {
    CLI::App* sub = app.add_subcommand("verify", "Read a whole GGUF file and say what is wrong");
    sub->add_option("FILE", command.file, "The GGUF file")->required()->type_name("");
    sub->add_option("--against", command.checkpoint,
                    "The checkpoint it was made from: also print each tensor's error")
        ->type_name("DIR");
    add_thread_option(*sub, command.n_threads);
    sub->footer(
        "Checks structure, the list of tensors, checksums, and every weight for being finite.\n"
        "Exit status: 0 sound, 3 something is wrong.");
    return sub;
}

void describe_edits(CLI::App& app, ConvertCommand& command) {
    app.add_option("--set", command.set,
                   "Give a key of the file's metadata this value; repeatable;\n"
                   "a new key needs a type: KEY:TYPE=VALUE with u8 to u64,\n"
                   "i8 to i64, f32, f64, bool, str")
        ->allow_extra_args(false)
        ->type_name("KEY=VALUE");
    app.add_option("--unset", command.unset, "Leave a key out; repeatable")
        ->allow_extra_args(false)
        ->type_name("KEY");
    app.add_option("--tokenizer", command.tokenizer,
                   "Take tokenizer and chat template from this folder of a\n"
                   "Hugging Face checkpoint")
        ->type_name("DIR");
    app.add_option("--chat-template", command.chat_template,
                   "Take the chat template from this file")
        ->type_name("FILE");
}

void describe_types(CLI::App& app, ConvertCommand& command) {
    app.add_option("TYPE,--type,--outtype", command.type_name,
                   "Number format of the weights, or a mix (see below)")
        ->type_name("");
    app.add_option("--fit", command.fit,
                   "Choose each tensor's format by measured error,\n"
                   "so that the file has at most this size: 6GiB, 500MB")
        ->type_name("SIZE");
    app.add_option("--bpw", command.bits_per_weight, "The same with bits per weight: 4.6")
        ->check(above_zero())
        ->type_name("X");
    app.add_option("--tensor-type", command.tensor_types,
                   "The format of one tensor or one kind of tensor\n"
                   "(attn_v=Q8_0); repeatable")
        ->allow_extra_args(false)
        ->type_name("NAME=TYPE");
    app.add_option("--imatrix", command.importance,
                   "Importance matrix (nemo-cli imatrix, llama-imatrix):\n"
                   "the columns that are used most come out best")
        ->type_name("FILE");
}

void describe_convert(CLI::App& app, ConvertCommand& command) {
    app.set_version_flag("--version", std::string("nemo-convert ") + kVersion);
    app.add_option("IN", command.input,
                   "Folder of a Hugging Face checkpoint (config.json,\n"
                   "*.safetensors and the tokenizer's files), or a GGUF file;\n"
                   "of a split one any part")
        ->type_name("");
    app.add_option("OUT,--outfile", command.output, "The GGUF file to write (not for --dry-run)")
        ->type_name("");
    describe_types(app, command);
    app.add_option("--split-max-size", command.max_part_size,
                   "Write OUT-00001-of-0000N.gguf ... of at most this size\n"
                   "each: 2G, 500MB")
        ->type_name("SIZE");
    describe_edits(app, command);
    add_thread_option(app, command.n_threads);
    app.add_flag("--force", command.force, "Replace OUT if it exists");
    app.add_flag("--no-mtp", command.no_mtp,
                 "Leave out the multi-token prediction head (nemo does not\n"
                 "run it; llama.cpp drafts with it)");
    app.add_flag("--resume", command.resume,
                 "Go on where a killed run with the same input and options\n"
                 "stopped, if there is one; and if this run is ended, keep\n"
                 "what it has for the next");
    app.add_flag("--dry-run", command.dry_run,
                 "Check everything, print what would be written and the\n"
                 "memory it takes to run, and stop");
    app.footer(
        "TYPE, at most one of this, --fit and --bpw:\n" + wrapped(output_type_names(), 78) +
        ".\n"
        "AUTO keeps what the input has, FP8 as Q8_0. Default: Q8_0 for a checkpoint; the tensors\n"
        "of a GGUF file stay as they are.\n\n"
        "Examples:\n"
        "  nemo-convert assets/demo demo.gguf --type Q8_0\n"
        "  nemo-convert ~/models/Nemotron-H-8B nemotron.gguf --type q4_k_m --threads 8\n"
        "  nemo-convert ~/models/Nemotron-H-8B fit.gguf --fit 5GiB --imatrix imatrix.gguf\n"
        "  nemo-convert assets/demo --dry-run\n"
        "  nemo-convert f16.gguf small.gguf --type q4_k_m\n"
        "  nemo-convert big.gguf big.gguf --split-max-size 2G      one file into several\n"
        "  nemo-convert big-00001-of-00003.gguf big.gguf           several into one\n"
        "  nemo-convert in.gguf out.gguf --set general.name=Mine --set my.key:u32=5\n"
        "  nemo-convert inspect demo.gguf\n"
        "  nemo-convert verify demo.gguf --against assets/demo\n\n"
        "OUT appears when it is complete, or not at all; Ctrl-C leaves nothing behind, but with\n"
        "--resume the temporary file beside OUT, named OUT.partial-*.\n"
        "Exit status: 0 done, 1 cannot write, 2 wrong usage, 3 unusable checkpoint or file,\n"
        "4 out of memory, 130 interrupted.");
}

}  // namespace

ConverterCommand parse_converter_command(int argc, const char* const* argv) {
    CLI::App app(
        "Converts a Hugging Face checkpoint (Nemotron-H, Nemotron-4, Minitron) or a GGUF file "
        "into a GGUF file.",
        "nemo-convert");
    app.require_subcommand(0, 1);
    ConvertCommand convert;
    InspectCommand inspect;
    VerifyCommand verify;
    describe_convert(app, convert);
    const CLI::App* inspect_app = describe_inspect(app, inspect);
    const CLI::App* verify_app = describe_verify(app, verify);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        std::ostringstream ignored;
        if (app.exit(error, out, ignored) != 0)
            fail(ErrorCode::usage, "{}; --help says more", error.what());
        return PrintCommand{out.str()};
    }
    if (inspect_app->parsed()) return inspect;
    if (verify_app->parsed()) return verify;
    if (!convert.type_name.empty() + !convert.fit.empty() + (convert.bits_per_weight > 0) > 1)
        fail(ErrorCode::usage,
             "--type, --fit and --bpw exclude each other: a size decides on the types itself");
    if (convert.input.empty()) fail(ErrorCode::usage, "IN is missing; see nemo-convert --help");
    if (convert.output.empty() && !convert.dry_run)
        fail(ErrorCode::usage, "OUT is missing; see nemo-convert --help");
    return convert;
}

}  // namespace nemo
