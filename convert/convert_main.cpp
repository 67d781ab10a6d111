// nemo-convert: a Hugging Face checkpoint in, one GGUF file out; and a look at such files.
//
// stdout carries only what was asked for (inspect, verify, --dry-run, --help, --version); progress,
// warnings and errors go to stderr.
#include "convert/convert.h"
#include "convert/inspect.h"
#include "convert/verify.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/mapped_file.h"
#include "core/progress_line.h"
#include "core/version.h"

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <new>
#include <optional>
#include <sstream>
#include <string>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;

struct InspectOptions {
    std::string file;
    bool json = false;
};

struct VerifyOptions {
    std::string file;
    std::string checkpoint;
    int n_threads = 0;
};

struct Options {
    std::string input;
    std::string output;
    std::string type_name = "Q8_0";
    int n_threads = 0;
    bool force = false;
    bool dry_run = false;
};

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string size_text(uint64_t n_bytes) {
    const auto n = static_cast<double>(n_bytes);
    if (n_bytes < 1'000'000) return fmt::format("{:.1f} kB", n / 1e3);
    if (n_bytes < 1'000'000'000) return fmt::format("{:.1f} MB", n / 1e6);
    return fmt::format("{:.2f} GB", n / 1e9);
}

// Shows bytes, rate and time left; ends the work on Ctrl-C.
class ProgressReport {
public:
    void operator()(const ConvertProgress& progress) {
        if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
        if (!line_.due()) return;
        const double seconds = line_.seconds();
        const auto done = static_cast<double>(progress.n_done_bytes);
        const auto total = static_cast<double>(progress.n_total_bytes);
        const double rate = seconds > 0.0 ? done / seconds : 0.0;
        const std::string left =
            rate > 0.0 ? fmt::format("{:.0f} s left", (total - done) / rate) : "";
        line_.show(fmt::format("{:3.0f}%  {:7.1f} MB/s  {}",
                               total > 0.0 ? 100.0 * done / total : 100.0, rate / 1e6, left));
    }

private:
    ProgressLine line_;
};

int convert(const Options& options) {
    const std::optional<OutputType> type = output_type_from_name(options.type_name);
    if (!type) {
        fail(ErrorCode::usage, "unknown type {}; one of: {}", options.type_name,
             output_type_names());
    }
    const Clock::time_point start = Clock::now();
    const ConversionPlan plan = make_plan(options.input, *type);
    for (const std::string& warning : plan.warnings) {
        write_stderr(terminal_safe(fmt::format("nemo-convert: warning: {}\n", warning)));
    }
    if (options.dry_run) {
        write_stdout(plan_table(plan));
        return 0;
    }

    check_target(options.input, options.output, options.force);
    {
        ProgressReport report;
        write_model(plan, options.output, options.n_threads, std::ref(report));
    }
    write_stderr(terminal_safe(fmt::format(
        "wrote {}: {} tensors, {}, {} in {:.1f} s\n", options.output, plan.tensors.size(),
        type->name, size_text(std::filesystem::file_size(options.output)), seconds_since(start))));
    return 0;
}

int inspect(const InspectOptions& options) {
    const ModelFile file = ModelFile::open(options.file);
    const std::string json = options.json ? inspect_json(file) : "";
    if (options.json)
        write_stdout(stdout_is_terminal() ? terminal_safe(json) : json);
    else
        write_stdout(inspect_text(file));
    return 0;
}

int verify(const VerifyOptions& options) {
    const ModelFile file = ModelFile::open(options.file);
    VerifyReport report;
    {
        ProgressReport progress;
        report = verify_model(file, options.checkpoint, options.n_threads, std::ref(progress));
    }
    write_stdout(verify_text(file, report));
    return report.problems.empty() ? 0 : static_cast<int>(ErrorCode::bad_file);
}

void add_thread_option(CLI::App& app, int& n_threads) {
    app.add_option("--threads,-t", n_threads, "Threads to use (default: one per core)")
        ->check(CLI::Range(1, 1024))
        ->type_name("N");
}

CLI::App* describe_inspect(CLI::App& app, InspectOptions& options) {
    CLI::App* sub = app.add_subcommand("inspect", "Print a GGUF file's metadata and tensors");
    sub->add_option("FILE", options.file, "The GGUF file")->required()->type_name("");
    sub->add_flag("--json", options.json, "One JSON object, nothing cut short");
    sub->footer("Long arrays and texts are cut short unless --json is given.");
    return sub;
}

CLI::App* describe_verify(CLI::App& app, VerifyOptions& options) {
    CLI::App* sub = app.add_subcommand("verify", "Read a whole GGUF file and say what is wrong");
    sub->add_option("FILE", options.file, "The GGUF file")->required()->type_name("");
    sub->add_option("--against", options.checkpoint,
                    "The checkpoint it was made from: also print each tensor's error")
        ->type_name("DIR");
    add_thread_option(*sub, options.n_threads);
    sub->footer(
        "Checks structure, the list of tensors, checksums, and every weight for being finite.\n"
        "Exit status: 0 sound, 3 something is wrong.");
    return sub;
}

void describe_options(CLI::App& app, Options& options) {
    app.set_version_flag("--version", std::string("nemo-convert ") + kVersion);
    app.add_option("IN", options.input,
                   "Folder of a Hugging Face checkpoint: config.json, *.safetensors and the "
                   "tokenizer's files")
        ->type_name("DIR");
    app.add_option("OUT,--outfile", options.output, "The GGUF file to write (not for --dry-run)")
        ->type_name("FILE");
    app.add_option("TYPE,--type,--outtype", options.type_name,
                   "Number format of the weights, or a mix of them: " + output_type_names())
        ->capture_default_str()
        ->type_name("TYPE");
    add_thread_option(app, options.n_threads);
    app.add_flag("--force", options.force, "Replace OUT if it exists");
    app.add_flag("--dry-run", options.dry_run,
                 "Check everything, print what would be written, and stop");
    app.footer(
        "Examples:\n"
        "  nemo-convert assets/demo demo.gguf --type Q8_0\n"
        "  nemo-convert ~/models/Nemotron-H-8B nemotron.gguf --type q4_k_m --threads 8\n"
        "  nemo-convert assets/demo --dry-run\n"
        "  nemo-convert inspect demo.gguf\n"
        "  nemo-convert verify demo.gguf --against assets/demo\n\n"
        "OUT appears when it is complete, or not at all; Ctrl-C leaves nothing behind.\n"
        "Exit status: 0 done, 1 cannot write, 2 wrong usage, 3 unusable checkpoint or file,\n"
        "4 out of memory, 130 interrupted.");
}

int run(int argc, char** argv) {
    CLI::App app("Converts a Hugging Face checkpoint of the Nemotron-H family into one GGUF file.",
                 "nemo-convert");
    app.require_subcommand(0, 1);
    Options options;
    InspectOptions inspect_options;
    VerifyOptions verify_options;
    describe_options(app, options);
    const CLI::App* inspect_app = describe_inspect(app, inspect_options);
    const CLI::App* verify_app = describe_verify(app, verify_options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        std::ostringstream ignored;
        if (app.exit(error, out, ignored) != 0)
            fail(ErrorCode::usage, "{}; --help says more", error.what());
        write_stdout(out.str());
        return 0;
    }
    const bool converts = !inspect_app->parsed() && !verify_app->parsed();
    if (converts && options.input.empty())
        fail(ErrorCode::usage, "IN is missing; see nemo-convert --help");
    if (converts && options.output.empty() && !options.dry_run)
        fail(ErrorCode::usage, "OUT is missing; see nemo-convert --help");
    install_interrupt_handler();
    install_lost_page_handler();
    if (inspect_app->parsed()) return inspect(inspect_options);
    if (verify_app->parsed()) return verify(verify_options);
    return convert(options);
}

int report(const char* message, ErrorCode code) {
    write_stderr(fmt::format("nemo-convert: {}\n", terminal_safe_line(message)));
    return static_cast<int>(code);
}

}  // namespace
}  // namespace nemo

int main(int argc, char** argv) {
    nemo::prepare_standard_streams();
    try {
        return nemo::run(argc, argv);
    } catch (const nemo::Error& error) {
        return nemo::report(error.what(), error.code());
    } catch (const std::bad_alloc&) {
        return nemo::report("out of memory", nemo::ErrorCode::out_of_memory);
    } catch (const std::exception& error) {
        return nemo::report(error.what(), nemo::ErrorCode::runtime);
    }
}
