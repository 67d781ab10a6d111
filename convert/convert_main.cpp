// nemo-convert: a Hugging Face checkpoint in, one GGUF file out.
//
// stdout carries only what was asked for (--dry-run, --help, --version); progress, warnings and
// errors go to stderr.
#include "convert/convert.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/mapped_file.h"
#include "core/version.h"

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <new>
#include <optional>
#include <string>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kUsageStatus = static_cast<int>(ErrorCode::usage);

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

// One line that is rewritten in place, only on a terminal.
class ProgressLine {
public:
    ProgressLine() : visible_(stderr_is_terminal()), start_(Clock::now()) {}
    ~ProgressLine() { clear(); }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void show(const ConvertProgress& progress) {
        if (!visible_ || seconds_since(last_) < 0.1) return;
        last_ = Clock::now();
        const double seconds = seconds_since(start_);
        const auto done = static_cast<double>(progress.n_done_bytes);
        const auto total = static_cast<double>(progress.n_total_bytes);
        const double rate = seconds > 0.0 ? done / seconds : 0.0;
        const std::string left =
            rate > 0.0 ? fmt::format("{:.0f} s left", (total - done) / rate) : "";
        print(fmt::format("{:3.0f}%  {:7.1f} MB/s  {}", total > 0.0 ? 100.0 * done / total : 100.0,
                          rate / 1e6, left));
    }

private:
    void print(const std::string& line) {
        write_stderr(fmt::format("\r{:<{}}", line, n_shown_));
        n_shown_ = line.size();
    }

    void clear() {
        if (n_shown_ == 0) return;
        write_stderr(fmt::format("\r{:<{}}\r", "", n_shown_));
    }

    bool visible_;
    Clock::time_point start_;
    Clock::time_point last_ = {};
    size_t n_shown_ = 0;
};

int convert(const Options& options) {
    const std::optional<DType> type = output_type_from_name(options.type_name);
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
        ProgressLine line;
        write_model(plan, options.output, options.n_threads, [&](const ConvertProgress& progress) {
            if (interrupted()) fail(ErrorCode::interrupted, "interrupted; nothing was written");
            line.show(progress);
        });
    }
    write_stderr(terminal_safe(
        fmt::format("wrote {}: {} tensors, {}, {} in {:.1f} s\n", options.output,
                    plan.tensors.size(), dtype_info(*type).name,
                    size_text(std::filesystem::file_size(options.output)), seconds_since(start))));
    return 0;
}

void describe_options(CLI::App& app, Options& options) {
    app.set_version_flag("--version", std::string("nemo-convert ") + kVersion);
    app.add_option("IN", options.input,
                   "Folder of a Hugging Face checkpoint: config.json, *.safetensors and the "
                   "tokenizer's files")
        ->required()
        ->type_name("DIR");
    app.add_option("OUT,--outfile", options.output, "The GGUF file to write (not for --dry-run)")
        ->type_name("FILE");
    app.add_option("TYPE,--type,--outtype", options.type_name,
                   "Number format of the weights: " + output_type_names())
        ->capture_default_str()
        ->type_name("TYPE");
    app.add_option("--threads,-t", options.n_threads, "Threads to use (default: one per core)")
        ->check(CLI::Range(1, 1024))
        ->type_name("N");
    app.add_flag("--force", options.force, "Replace OUT if it exists");
    app.add_flag("--dry-run", options.dry_run,
                 "Check everything, print what would be written, and stop");
    app.footer(
        "Examples:\n"
        "  nemo-convert assets/demo demo.gguf --type Q8_0\n"
        "  nemo-convert ~/models/Nemotron-Nano-9B-v2 nano.gguf --type q4_0 --threads 8\n"
        "  nemo-convert assets/demo --dry-run\n\n"
        "OUT appears when it is complete, or not at all; Ctrl-C leaves nothing behind.\n"
        "Exit status: 0 done, 1 cannot write, 2 wrong usage, 3 unusable checkpoint,\n"
        "4 out of memory, 130 interrupted.");
}

int run(int argc, char** argv) {
    CLI::App app("Converts a Hugging Face checkpoint of the Nemotron-H family into one GGUF file.",
                 "nemo-convert");
    Options options;
    describe_options(app, options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : kUsageStatus;
    }
    if (options.output.empty() && !options.dry_run) {
        fail(ErrorCode::usage, "OUT is missing; see nemo-convert --help");
    }
    install_interrupt_handler();
    install_lost_page_handler();
    return convert(options);
}

int report(const char* message, ErrorCode code) {
    write_stderr(terminal_safe(fmt::format("nemo-convert: {}\n", message)));
    return static_cast<int>(code);
}

}  // namespace
}  // namespace nemo

int main(int argc, char** argv) {
    // A closed pipe must not end us before the temporary file is removed; see write_stdout().
    std::signal(SIGPIPE, SIG_IGN);
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
