// nemo-cli bench: the statistics, the names of tests, what is printed, and that operations are
// counted as often as they ran.
#include "app/bench.h"
#include "app/timed_backend.h"
#include "core/error.h"
#include "core/json.h"
#include "tests/app/process.h"
#include "tests/models/golden_model.h"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>

namespace nemo {
namespace {

ProcessResult run_bench(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {program("nemo-cli"), "bench", "-t", "1"});
    return run_process(std::move(arguments));
}

const Json* find_named(const Json& list, const char* key, const std::string& name) {
    for (const Json& item : list.array())
        if (item.find(key)->string() == name) return &item;
    return nullptr;
}

}  // namespace

TEST_CASE("mean, deviation and best of the repetitions") {
    const BenchResult result = {.test = {true, 64, 4096}, .speeds = {2, 4, 6}};
    CHECK(result.test.name() == "tg64@d4096");
    CHECK(BenchTest{false, 512, 0}.name() == "pp512");
    CHECK(result.mean() == doctest::Approx(4));
    CHECK(result.deviation() == doctest::Approx(2));
    CHECK(result.best() == 6);
    CHECK(BenchResult{.speeds = {3}}.deviation() == 0);
}

TEST_CASE("a test reads the context before every prompt and times only what it names") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    TimedBackend timed(*backend);
    const Model model(golden.file(), timed);
    int n_timed = 0;
    const BenchEvents events = {.on_step = [](const std::string&) {},
                                .on_timing =
                                    [&](bool on) {
                                        n_timed += on;
                                        timed.set_timing(on);
                                    },
                                .cancelled = [] { return false; }};
    const auto op = [&](const char* name) {
        const auto found = std::ranges::find(timed.times(), name, &OpTime::name);
        REQUIRE(found != timed.times().end());
        return *found;
    };
    // In chunks of 8: 8, 8, 4.
    CHECK(measure_speed(model, {false, 20, 30}, {.chunk = 8, .n_repetitions = 3}, events)
              .speeds.size() == 3);
    CHECK(n_timed == 3);
    CHECK(op("embed").n_calls == 9);
    CHECK(op("output").n_calls == 3);
    const TensorView* up = golden.file()->find("blk.1.ffn_up.weight");
    REQUIRE(up != nullptr);
    const auto n_layers = static_cast<double>(model.config().n_layers(LayerKind::mlp));
    CHECK(op("ffn_up").n_bytes == n_layers * 9 * static_cast<double>(up->n_bytes()));
    CHECK(op("ffn_up").n_operations ==
          n_layers * 3 * 20 * 2 * static_cast<double>(up->n_elements()));
    const AttentionShape& shape = model.config().layers[2].attention;
    double n_pairs = 0;
    for (int t = 0; t < 20; ++t) n_pairs += 30 + t + 1;
    CHECK(op("attention").n_operations ==
          doctest::Approx(3 * 4 * n_pairs * static_cast<double>(shape.q_dim())));

    timed.clear();
    measure_speed(model, {true, 5, 0}, {.chunk = 8, .n_repetitions = 2}, events);
    CHECK(op("embed").n_calls == 10);
    CHECK(op("ssm_scan").n_calls == 10 * model.config().n_layers(LayerKind::mamba2));
    CHECK(op("ssm_scan").n_weight_bytes == 0);
    CHECK(op("ffn_up").n_weight_bytes == n_layers * 10 * static_cast<double>(up->n_bytes()));

    const BenchEvents cancelling = {events.on_step, events.on_timing, [] { return true; }};
    CHECK_THROWS_AS(measure_speed(model, {false, 20, 0}, {}, cancelling), Error);
}

TEST_CASE("experts that nobody chose are not counted as read") {
    const GoldenModel golden("moe", DType::f32);
    const auto backend = make_cpu_backend(1);
    TimedBackend timed(*backend);
    timed.set_timing(true);
    const Model model(golden.file(), timed);
    Session session(model, {});
    const int32_t token = 65;
    session.append({&token, 1});
    const auto found = std::ranges::find(timed.times(), "experts", &OpTime::name);
    REQUIRE(found != timed.times().end());
    const TensorView* up = golden.file()->find("blk.1.ffn_up_exps.weight");
    const TensorView* down = golden.file()->find("blk.1.ffn_down_exps.weight");
    const auto n_layers = static_cast<double>(model.config().n_layers(LayerKind::moe));
    // 3 of 8.
    CHECK(found->n_bytes ==
          n_layers * 3 / 8 * static_cast<double>(up->n_bytes() + down->n_bytes()));
    CHECK(found->n_weight_bytes == found->n_bytes);
}

TEST_CASE("bench prints a row per test, in each format") {
    const GoldenModel golden("dense", DType::q8_0);
    const std::vector<std::string> tests = {
        "-m", golden.file()->path(), "-p", "16,0", "-n", "3", "-d", "0,5", "-r", "2", "-b", "8"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), tests.begin(), tests.end());
        const ProcessResult result = run_bench(more);
        CHECK(result.err.empty());
        CHECK(result.status == 0);
        return result.out;
    };
    const std::string md = with({});
    for (const char* name : {"| pp16 |", "| tg3 |", "| pp16@d5 |", "| tg3@d5 |"})
        CHECK(contains(md, name));
    CHECK(std::ranges::count(md, '\n') == 6);
    const std::string csv = with({"-o", "csv"});
    CHECK(csv.starts_with("model,"));
    CHECK(std::ranges::count(csv, '\n') == 5);

    const Json json = parse_json(with({"-o", "json", "--ops"}), "bench");
    const Json* test = find_named(*json.find("results"), "test", "tg3@d5");
    REQUIRE(test != nullptr);
    CHECK(test->find("samples")->array().size() == 2);
    CHECK(test->find("tokens_per_second")->number() > 0);
    const Json* op = find_named(*test->find("ops"), "name", "ssm_in");
    REQUIRE(op != nullptr);
    CHECK(op->find("calls")->integer() == 12);
    CHECK(op->find("seconds")->number() > 0);
    CHECK(json.find("ceilings")->find("read_bytes")->number() > 1e8);

    CHECK(test->find("read_rates")->array().size() == 3);

    // Of generation only; per token, however many tokens and repetitions.
    const std::string ops = with({"--ops"});
    double n_bytes = 0;
    for (const Json& each : test->find("ops")->array())
        n_bytes += each.find("weight_bytes")->number() / 6;
    const std::string line = fmt::format("Reads {:.2f} MB of weights per token: ", n_bytes / 1e6);
    const size_t first = ops.find(line);
    REQUIRE(first != std::string::npos);
    const size_t second = ops.find(line, first + 1);
    REQUIRE(second != std::string::npos);
    CHECK(ops.find("Reads", second + 1) == std::string::npos);

    CHECK(run_bench({"-m", golden.file()->path(), "-p", "0", "-n", "0"}).status == 2);
    CHECK(run_bench({"-m", golden.file()->path(), "-o", "xml"}).status == 2);
    CHECK(run_bench({"-p", "8"}).status == 2);
    CHECK(run_bench({"-m", (golden_folder("dense") / "config.json").string()}).status == 3);
}

}  // namespace nemo
