// nemo-convert: a Hugging Face checkpoint or a GGUF file in, a GGUF file out; and a look at such
// files.
//
// stdout carries only what was asked for (inspect, verify, --dry-run, --help, --version); progress,
// warnings and errors go to stderr.
#include "convert/convert.h"
#include "convert/convert_options.h"
#include "convert/inspect.h"
#include "convert/metadata_edit.h"
#include "convert/plan_report.h"
#include "convert/type_choice.h"
#include "convert/verify.h"
#include "core/atomic_file.h"
#include "core/byte_size.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/mapped_file.h"
#include "core/progress_line.h"

#include <fmt/core.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <variant>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Shows bytes, rate and time left; ends the work on Ctrl-C.
class ProgressReport {
public:
    void operator()(const ConvertProgress& progress) {
        if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
        n_kept_bytes = progress.n_kept_bytes;
        if (!line_.due()) return;
        const double seconds = line_.seconds();
        const auto done = static_cast<double>(progress.n_done_bytes);
        const auto total = static_cast<double>(progress.n_total_bytes);
        const auto kept = static_cast<double>(progress.n_kept_bytes);
        const double rate = seconds > 0.0 ? (done - kept) / seconds : 0.0;
        line_.show(fmt::format("{:3.0f}%  {:7.1f} MB/s  {}",
                               total > 0.0 ? 100.0 * done / total : 100.0, rate / 1e6,
                               line_.time_left(done - kept, total - done)));
    }

    uint64_t n_kept_bytes = 0;

private:
    ProgressLine line_;
};

// nullopt: not given.
std::optional<OutputType> type_of(const std::string& name) {
    if (name.empty()) return std::nullopt;
    const std::optional<OutputType> type = output_type_from_name(name);
    if (!type) fail(ErrorCode::usage, "unknown type {}; one of: {}", name, output_type_names());
    return type;
}

TypeRequest type_request(const ConvertCommand& command) {
    TypeRequest request;
    if (!command.fit.empty()) request.n_file_bytes = parse_byte_size(command.fit);
    if (command.bits_per_weight > 0) request.bits_per_weight = command.bits_per_weight;
    for (const std::string& text : command.tensor_types) {
        const size_t equals = text.find('=');
        if (equals == std::string::npos || equals + 1 == text.size())
            fail(ErrorCode::usage, "--tensor-type {}: expected NAME=TYPE", text);
        const OutputType type = type_of(text.substr(equals + 1)).value();
        if (type.name != dtype_info(type.base).name)
            fail(ErrorCode::usage,
                 "--tensor-type {}: {} is a mix; one format is needed, such as {}", text, type.name,
                 dtype_info(type.base).name);
        request.overrides.push_back({text.substr(0, equals), type.base});
    }
    request.n_threads = command.n_threads;
    return request;
}

// After this the plan's metadata and types are complete. Takes minutes where there is something to
// be measured.
void choose_types(const ConvertCommand& command, ConversionPlan& plan) {
    if (!command.importance.empty())
        use_importance(plan,
                       std::make_shared<const Importance>(read_importance(command.importance)));
    ProgressLine line;
    choose_measured_types(plan, type_request(command), [&](size_t n_done, size_t n_total) {
        if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
        if (line.due()) line.show(fmt::format("measuring: tensor {} of {}", n_done, n_total));
    });
}

ConversionPlan make_plan(const ConvertCommand& command) {
    std::optional<OutputType> type = type_of(command.type_name);
    // What is to be encoded anew needs a type to start from, also where the input is a GGUF file.
    const bool by_size = !command.fit.empty() || command.bits_per_weight > 0;
    if (by_size) type = uniform_output_type(kDefaultType);
    if (!type && !(command.tensor_types.empty() && command.importance.empty()) &&
        !std::filesystem::is_directory(command.input))
        fail(ErrorCode::usage,
             "--tensor-type and --imatrix need --type, --fit or --bpw where the input is a GGUF "
             "file; --type AUTO leaves all other tensors as they are");
    const uint64_t max_part_bytes =
        command.max_part_size.empty() ? 0 : parse_byte_size(command.max_part_size);
    ConversionPlan plan = make_plan(
        command.input, type, command.no_mtp ? PredictionHead::leave_out : PredictionHead::keep);
    edit_metadata({.tokenizer = command.tokenizer,
                   .chat_template = command.chat_template,
                   .unset = command.unset,
                   .set = command.set},
                  plan);
    if (std::filesystem::is_directory(command.input)) check_text_keys(command.input, plan);
    plan.max_part_bytes = max_part_bytes;
    return plan;
}

std::string written_text(const ConversionPlan& plan, const std::string& output, double seconds) {
    const size_t n_parts = planned_parts(plan).size();
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < n_parts; ++i)
        n_bytes += std::filesystem::file_size(part_path(output, i, n_parts));
    const std::string last =
        n_parts > 1 ? fmt::format(" to {}", part_path(output, n_parts - 1, n_parts).string()) : "";
    return fmt::format("wrote {}{}: {} tensors, {:.2f} bits per weight, {} in {:.1f} s\n",
                       part_path(output, 0, n_parts).string(), last, plan.tensors.size(),
                       plan.bits_per_weight(), size_text(n_bytes), seconds);
}

int run(const ConvertCommand& command) {
    const Clock::time_point start = Clock::now();
    for (const std::string& read : {command.importance, command.chat_template})
        refuse_to_replace(command.output, read);
    ConversionPlan plan = make_plan(command);
    // Into how many files a result is split is known only with its types.
    if (!command.dry_run && plan.max_part_bytes == 0)
        check_target(plan, command.output, command.force);
    choose_types(command, plan);
    for (const std::string& warning : plan.warnings) {
        write_stderr(terminal_safe(fmt::format("nemo-convert: warning: {}\n", warning)));
    }
    if (command.dry_run) {
        write_stdout(terminal_safe(plan_table(plan)));
        return 0;
    }

    for (const std::string& note : plan.notes) write_stderr(terminal_safe(note + "\n"));

    check_target(plan, command.output, command.force);
    uint64_t n_kept_bytes = 0;
    {
        ProgressReport report;
        write_model(plan, command.output, command.n_threads, std::ref(report),
                    command.resume ? OnRestart::resume : OnRestart::start_over);
        n_kept_bytes = report.n_kept_bytes;
    }
    if (n_kept_bytes > 0)
        write_stderr(fmt::format("resumed: {} were already there\n", size_text(n_kept_bytes)));
    write_stderr(terminal_safe(written_text(plan, command.output, seconds_since(start))));
    return 0;
}

int run(const InspectCommand& command) {
    const ModelFile file = ModelFile::open(command.file);
    write_stdout_text(command.json ? inspect_json(file) : inspect_text(file));
    return 0;
}

int run(const VerifyCommand& command) {
    const ModelFile file = ModelFile::open(command.file);
    VerifyReport report;
    {
        ProgressReport progress;
        report = verify_model(file, command.checkpoint, command.n_threads, std::ref(progress));
    }
    write_stdout(verify_text(file, report));
    return report.problems.empty() ? 0 : static_cast<int>(ErrorCode::bad_file);
}

int run(const PrintCommand& command) {
    write_stdout(command.text);
    return 0;
}

int run(int argc, char** argv) {
    const ConverterCommand command = parse_converter_command(argc, argv);
    install_interrupt_handler();
    install_lost_page_handler();
    return std::visit([](const auto& chosen) { return run(chosen); }, command);
}

}  // namespace
}  // namespace nemo

int main(int argc, char** argv) {
    nemo::prepare_standard_streams();
    try {
        return nemo::run(argc, argv);
    } catch (const std::exception& exception) {
        return nemo::report_exception("nemo-convert", exception);
    }
}
