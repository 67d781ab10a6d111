// nemo-cli bench: tokens per second in llama-bench's terms, and where the time goes.
#include "app/bench.h"
#include "app/commands.h"
#include "app/load_model.h"
#include "app/timed_backend.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/json.h"
#include "core/progress_line.h"
#include "core/thread_pool.h"
#include "kernels/cpu/ceilings.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace nemo {

namespace {

constexpr double kGiga = 1e9;

struct Subject {
    std::string path;
    double n_bytes = 0;
    double n_parameters = 0;
    int n_threads = 0;
};

std::vector<BenchTest> tests_of(const BenchCommand& command) {
    std::vector<BenchTest> tests;
    for (const int64_t depth : command.depths) {
        for (const int64_t n : command.prompts)
            if (n > 0) tests.push_back({.generate = false, .n_tokens = n, .depth = depth});
        for (const int64_t n : command.generations)
            if (n > 0) tests.push_back({.generate = true, .n_tokens = n, .depth = depth});
    }
    if (tests.empty()) fail(ErrorCode::usage, "nothing to measure: -p and -n are both 0");
    return tests;
}

Subject describe(const ModelFile& file, int n_threads) {
    Subject subject = {.path = file.path(),
                       .n_bytes = static_cast<double>(file.n_file_bytes()),
                       .n_threads = n_threads};
    for (const TensorView& tensor : file.tensors())
        subject.n_parameters += static_cast<double>(tensor.n_elements());
    return subject;
}

// ---- Results ----

std::string markdown_head() {
    return "| model | size | params | threads | test | t/s | best |\n"
           "|---|---:|---:|---:|---|---:|---:|\n";
}

std::string in_units(double value) {
    return value < kGiga ? fmt::format("{:.2f} M", value / 1e6)
                         : fmt::format("{:.2f} G", value / kGiga);
}

std::string markdown_row(const Subject& subject, const BenchResult& result) {
    return fmt::format("| {} | {}B | {} | {} | {} | {:.2f} ± {:.2f} | {:.2f} |\n",
                       terminal_safe_line(std::filesystem::path(subject.path).filename().string()),
                       in_units(subject.n_bytes), in_units(subject.n_parameters), subject.n_threads,
                       result.test.name(), result.mean(), result.deviation(), result.best());
}

std::string csv_head() {
    return "model,size_bytes,parameters,threads,test,tokens_per_second,deviation,best\n";
}

std::string csv_row(const Subject& subject, const BenchResult& result) {
    std::string path;
    append_json_string(path, subject.path);
    return fmt::format("{},{:.0f},{:.0f},{},{},{:.4f},{:.4f},{:.4f}\n", path, subject.n_bytes,
                       subject.n_parameters, subject.n_threads, result.test.name(), result.mean(),
                       result.deviation(), result.best());
}

Json json_of(const OpTime& op) {
    return Json::Object{{"name", op.name},
                        {"calls", op.n_calls},
                        {"seconds", op.seconds},
                        {"bytes", op.n_bytes},
                        {"weight_bytes", op.n_weight_bytes},
                        {"operations", op.n_operations}};
}

Json json_of(const Subject& subject, const BenchResult& result, const std::vector<OpTime>& ops,
             const std::vector<double>& read_rates) {
    Json::Array samples(result.speeds.begin(), result.speeds.end());
    Json::Object object = {{"model", subject.path},
                           {"size_bytes", subject.n_bytes},
                           {"parameters", subject.n_parameters},
                           {"threads", subject.n_threads},
                           {"test", result.test.name()},
                           {"tokens_per_second", result.mean()},
                           {"deviation", result.deviation()},
                           {"best", result.best()},
                           {"samples", std::move(samples)}};
    if (!ops.empty()) {
        Json::Array list;
        for (const OpTime& op : ops) list.push_back(json_of(op));
        object.emplace_back("ops", std::move(list));
        object.emplace_back("read_rates", Json::Array(read_rates.begin(), read_rates.end()));
    }
    return object;
}

// ---- Operations ----

std::string ceilings_text(const CpuCeilings& ceilings) {
    return fmt::format(
        "\nThis machine at most: {:.1f} GB/s read from the file, {:.0f} GOP/s int8, {:.0f} GOP/s "
        "fp32\n",
        ceilings.n_read_bytes / kGiga, ceilings.n_int8_operations / kGiga,
        ceilings.n_fp32_operations / kGiga);
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    const size_t n = values.size();
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// How near the whole of a generation comes to plain reads between its repetitions: everything that
// is not reading weights counts against it.
std::string weights_text(const BenchResult& result, const std::vector<OpTime>& ops,
                         const std::vector<double>& read_rates) {
    double n_bytes = 0;
    for (const OpTime& op : ops) n_bytes += op.n_weight_bytes;
    n_bytes /=
        static_cast<double>(result.test.n_tokens) * static_cast<double>(result.speeds.size());
    const double rate = n_bytes * median(result.speeds), read_rate = median(read_rates);
    return fmt::format(
        "Reads {}B of weights per token: {:.1f} GB/s, {:.1f} % of the {:.1f} GB/s that plain reads "
        "between the repetitions reach (medians)\n",
        in_units(n_bytes), rate / kGiga, 100 * rate / read_rate, read_rate / kGiga);
}

std::string ops_text(const BenchResult& result, std::vector<OpTime> ops,
                     const std::vector<double>& read_rates) {
    std::ranges::sort(ops, std::ranges::greater{}, &OpTime::seconds);
    double total = 0;
    for (const OpTime& op : ops) total += op.seconds;
    const auto n_repetitions = static_cast<double>(result.speeds.size());
    std::string text = fmt::format(
        "\n{}: {:.2f} ms per repetition in operations\n"
        "| op | calls | ms | share | GB/s | GOP/s |\n|---|---:|---:|---:|---:|---:|\n",
        result.test.name(), 1e3 * total / n_repetitions);
    for (const OpTime& op : ops)
        text += fmt::format("| {} | {:.0f} | {:.3f} | {:.1f} % | {:.2f} | {:.1f} |\n", op.name,
                            static_cast<double>(op.n_calls) / n_repetitions,
                            1e3 * op.seconds / n_repetitions, 100 * op.seconds / total,
                            op.n_bytes / op.seconds / kGiga, op.n_operations / op.seconds / kGiga);
    if (result.test.generate) text += weights_text(result, ops, read_rates);
    return text;
}

std::vector<std::span<const std::byte>> weight_bytes(const ModelFile& file) {
    std::vector<std::span<const std::byte>> blocks;
    for (const TensorView& tensor : file.tensors())
        blocks.emplace_back(tensor.data, static_cast<size_t>(tensor.n_bytes()));
    return blocks;
}

// Everything at the end, but for a person that watches: rows as they come.
class Output {
public:
    Output(const BenchCommand& command, Subject subject)
        : command_(command), subject_(std::move(subject)) {
        if (command.format == "md") write_stdout(markdown_head());
        if (command.format == "csv") write_stdout(csv_head());
    }

    // `read_rates`: measured around the repetitions, if there are ops.
    void add(const BenchResult& result, const std::vector<OpTime>& ops,
             const std::vector<double>& read_rates) {
        if (command_.format == "md") write_stdout(markdown_row(subject_, result));
        if (command_.format == "csv") write_stdout(csv_row(subject_, result));
        if (command_.format == "json")
            objects_.push_back(json_of(subject_, result, ops, read_rates));
        if (command_.format != "json" && !ops.empty()) tables_ += ops_text(result, ops, read_rates);
    }

    void finish(const std::optional<CpuCeilings>& ceilings) {
        if (command_.format != "json") {
            if (ceilings) write_stdout(ceilings_text(*ceilings) + tables_);
            return;
        }
        Json::Object object = {{"results", std::move(objects_)}};
        if (ceilings)
            object.emplace_back("ceilings",
                                Json::Object{{"read_bytes", ceilings->n_read_bytes},
                                             {"int8_operations", ceilings->n_int8_operations},
                                             {"fp32_operations", ceilings->n_fp32_operations}});
        write_stdout(to_json_text(std::move(object)) + "\n");
    }

private:
    const BenchCommand& command_;
    Subject subject_;
    Json::Array objects_;
    std::string tables_;
};

}  // namespace

int run_bench(const BenchCommand& command) {
    const std::vector<BenchTest> tests = tests_of(command);
    const auto backend = make_cpu_backend(command.threads);
    TimedBackend timed(*backend);
    const auto file = load_model_file(command.model, command.load);
    const Model model(file, command.ops ? static_cast<Backend&>(timed) : *backend);
    ThreadPool pool(command.threads);
    Output output(command, describe(*file, pool.n_threads()));
    std::optional<CpuCeilings> ceilings;
    const auto weights = weight_bytes(*file);
    if (command.ops) ceilings = measure_cpu_ceilings(weights, pool);
    for (const BenchTest& test : tests) {
        ProgressLine progress;
        std::vector<double> read_rates;
        const auto on_timing = [&](bool on) {
            timed.set_timing(on);
            if (on && command.ops) read_rates.push_back(measure_read_rate(weights, pool));
        };
        const BenchResult result =
            measure_speed(model, test,
                          {.chunk = command.chunk,
                           .n_repetitions = command.n_repetitions,
                           .kv_types = command.kv_types},
                          {.on_step = [&](const std::string& what) { progress.show(what); },
                           .on_timing = on_timing,
                           .cancelled = interrupted});
        if (ceilings) {
            read_rates.push_back(measure_read_rate(weights, pool));
            ceilings->n_read_bytes =
                std::max(ceilings->n_read_bytes, *std::ranges::max_element(read_rates));
        }
        output.add(result, timed.times(), read_rates);
        timed.clear();
    }
    output.finish(ceilings);
    return 0;
}

}  // namespace nemo
