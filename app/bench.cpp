#include "app/bench.h"

#include "core/error.h"
#include "models/session.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

namespace nemo {

namespace {

// Tokens that a generation warms up with.
constexpr int64_t kWarmUpTokens = 4;

class Bench {
public:
    Bench(const Model& model, const BenchTest& test, const BenchOptions& options,
          const BenchEvents& events)
        : test_(test),
          events_(events),
          session_(model, {.n_context = context_needed(test, options),
                           .chunk = options.chunk,
                           .kv_types = options.kv_types}),
          pick_(0, static_cast<int32_t>(model.config().n_vocab - 1)) {}

    void warm_up() {
        start_at_depth();
        events_.on_step(fmt::format("{}: warming up", test_.name()));
        run(test_.generate ? std::min(test_.n_tokens, kWarmUpTokens) : test_.n_tokens);
    }

    // Seconds.
    double repeat() {
        if (!test_.generate) start_at_depth();
        events_.on_step(test_.name());
        events_.on_timing(true);
        const auto start = std::chrono::steady_clock::now();
        run(test_.n_tokens);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        events_.on_timing(false);
        return elapsed.count();
    }

private:
    static int64_t context_needed(const BenchTest& test, const BenchOptions& options) {
        const int64_t n_runs = test.generate ? 1 + int64_t{options.n_repetitions} : 1;
        return test.depth + test.n_tokens * n_runs;
    }

    void start_at_depth() {
        session_.reset();
        if (test_.depth == 0) return;
        events_.on_step(fmt::format("{}: reading the context", test_.name()));
        append(test_.depth);
    }

    void run(int64_t n_tokens) {
        if (!test_.generate) return append(n_tokens);
        for (int64_t i = 0; i < n_tokens; ++i) append(1);
    }

    void append(int64_t n_tokens) {
        std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
        for (int32_t& token : tokens) token = pick_(random_);
        if (session_.append(tokens, events_.cancelled).empty())
            fail(ErrorCode::interrupted, "interrupted");
    }

    BenchTest test_;
    const BenchEvents& events_;
    Session session_;
    std::mt19937 random_{1};
    std::uniform_int_distribution<int32_t> pick_;
};

}  // namespace

std::string BenchTest::name() const {
    const std::string base = fmt::format("{}{}", generate ? "tg" : "pp", n_tokens);
    return depth > 0 ? fmt::format("{}@d{}", base, depth) : base;
}

double BenchResult::mean() const {
    return std::accumulate(speeds.begin(), speeds.end(), 0.0) / static_cast<double>(speeds.size());
}

double BenchResult::deviation() const {
    if (speeds.size() < 2) return 0;
    const double average = mean();
    double squares = 0;
    for (const double speed : speeds) squares += (speed - average) * (speed - average);
    return std::sqrt(squares / static_cast<double>(speeds.size() - 1));
}

double BenchResult::best() const {
    return *std::ranges::max_element(speeds);
}

BenchResult measure_speed(const Model& model, const BenchTest& test, const BenchOptions& options,
                          const BenchEvents& events) {
    NEMO_ASSERT(test.n_tokens > 0 && test.depth >= 0 && options.n_repetitions > 0);
    Bench bench(model, test, options, events);
    bench.warm_up();
    BenchResult result = {.test = test};
    for (int i = 0; i < options.n_repetitions; ++i)
        result.speeds.push_back(static_cast<double>(test.n_tokens) / bench.repeat());
    return result;
}

}  // namespace nemo
