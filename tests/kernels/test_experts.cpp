// Routing and the experts of a mixture-of-experts layer.
#include "tests/kernels/helpers.h"

#include <algorithm>
#include <array>
#include <numeric>

using namespace nemo;

namespace {

double as_double(float value) {
    return static_cast<double>(value);
}
double sigmoid(double x) {
    return 1.0 / (1.0 + std::exp(-x));
}

struct Routing {
    std::vector<int32_t> ids;
    std::vector<float> weights;
};

Routing run_route(Backend& backend, const RouterShape& shape, const std::vector<float>& logits,
                  const Weight& bias = {}) {
    const int64_t n_tokens = std::ssize(logits) / shape.n_experts;
    Routing routing{.ids = std::vector<int32_t>(static_cast<size_t>(n_tokens * shape.n_used)),
                    .weights = std::vector<float>(static_cast<size_t>(n_tokens * shape.n_used))};
    backend.route(shape, logits.data(), bias, n_tokens, routing.ids.data(), routing.weights.data());
    return routing;
}

// One token, by sorting; groups are masked first.
Routing expected_route(const RouterShape& shape, const float* logits,
                       const std::vector<float>& bias) {
    const auto n = static_cast<size_t>(shape.n_experts);
    const size_t group_size = n / static_cast<size_t>(shape.n_groups);
    std::vector<double> score(n);
    for (size_t e = 0; e < n; ++e) score[e] = sigmoid(as_double(logits[e])) + as_double(bias[e]);
    std::vector<std::pair<double, size_t>> groups;
    for (size_t g = 0; g < n / group_size; ++g) {
        std::vector<double> members(
            score.begin() + static_cast<std::ptrdiff_t>(g * group_size),
            score.begin() + static_cast<std::ptrdiff_t>((g + 1) * group_size));
        std::sort(members.rbegin(), members.rend());
        groups.emplace_back(-(members[0] + (group_size > 1 ? members[1] : 0.0)), g);
    }
    std::sort(groups.begin(), groups.end());
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < static_cast<size_t>(shape.n_groups_used); ++i)
        for (size_t e = groups[i].second * group_size; e < (groups[i].second + 1) * group_size; ++e)
            order.emplace_back(-score[e], e);
    std::sort(order.begin(), order.end());
    Routing routing;
    double sum = 0.0;
    for (size_t i = 0; i < static_cast<size_t>(shape.n_used); ++i)
        sum += sigmoid(as_double(logits[order[i].second]));
    for (size_t i = 0; i < static_cast<size_t>(shape.n_used); ++i) {
        const size_t e = order[i].second;
        routing.ids.push_back(static_cast<int32_t>(e));
        routing.weights.push_back(
            static_cast<float>(sigmoid(as_double(logits[e])) / (shape.normalize ? sum : 1.0) *
                               as_double(shape.scale)));
    }
    return routing;
}

}  // namespace

TEST_CASE("route: top-k of sigmoid plus bias, groups, normalization and scale") {
    const RouterShape shapes[] = {
        {.n_experts = 8, .n_used = 2},
        {.n_experts = 8, .n_used = 8, .normalize = false},
        {.n_experts = 128, .n_used = 6, .scale = 2.5f},
        {.n_experts = 12, .n_used = 3, .n_groups = 4, .n_groups_used = 2, .scale = 5.0f},
        {.n_experts = 4, .n_used = 2, .n_groups = 4, .n_groups_used = 2},
    };
    for (const RouterShape& shape : shapes) {
        CAPTURE(shape.n_experts);
        CAPTURE(shape.n_groups);
        const std::vector<float> logits = random_values(shape.n_experts * 21, 71, 2.0f);
        const std::vector<float> bias = random_values(shape.n_experts, 72);
        const TestTensor bias_tensor = f32_tensor({shape.n_experts, 1, 1, 1}, bias);
        const auto backend = make_cpu_backend(2, CpuTier::scalar);
        const Routing actual = run_route(*backend, shape, logits, bias_tensor.weight());
        const auto k = static_cast<size_t>(shape.n_used);
        for (size_t t = 0; t < 21; ++t) {
            const Routing expected = expected_route(
                shape, logits.data() + t * static_cast<size_t>(shape.n_experts), bias);
            for (size_t i = 0; i < k; ++i) {
                REQUIRE(actual.ids[t * k + i] == expected.ids[i]);
                CHECK(actual.weights[t * k + i] ==
                      doctest::Approx(expected.weights[i]).epsilon(1e-6));
            }
        }
    }
}

TEST_CASE("route: ties go to the lower id, the bias selects but does not weigh") {
    const RouterShape shape = {.n_experts = 6, .n_used = 3, .normalize = false};
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    CHECK(run_route(*backend, shape, std::vector<float>(6, 0.5f)).ids ==
          std::vector<int32_t>{0, 1, 2});
    const TestTensor bias = f32_tensor({6, 1, 1, 1}, {0, 0, 0, 0, 0, 10});
    const Routing routing = run_route(*backend, shape, std::vector<float>(6, 0.0f), bias.weight());
    CHECK(routing.ids == std::vector<int32_t>{5, 0, 1});
    CHECK(routing.weights == std::vector<float>{0.5f, 0.5f, 0.5f});
}

TEST_CASE("route: NaN and vanishing weights still give valid, distinct experts") {
    const RouterShape shape = {
        .n_experts = 8, .n_used = 6, .n_groups = 4, .n_groups_used = 1, .scale = 2.0f};
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    for (const float value : {std::nanf(""), -200.0f, HUGE_VALF}) {
        Routing routing = run_route(*backend, shape, std::vector<float>(8, value));
        std::sort(routing.ids.begin(), routing.ids.end());
        CHECK(std::adjacent_find(routing.ids.begin(), routing.ids.end()) == routing.ids.end());
        CHECK(routing.ids.front() >= 0);
        CHECK(routing.ids.back() < 8);
        if (value < 0.0f) CHECK(routing.weights[0] == 0.0f);
    }
}

TEST_CASE("experts: weighted sum over the chosen experts") {
    for (const DType dtype : {DType::f32, DType::f16, DType::q8_0, DType::iq4_nl}) {
        const int64_t n_in = 64, n_hidden = 96, n_experts = 5, n_used = 3, n_tokens = 27;
        const RouterShape shape = {.n_experts = n_experts, .n_used = n_used};
        const TestTensor up = random_tensor(dtype, {n_in, n_hidden, n_experts, 1}, 81, 0.3f),
                         down = random_tensor(dtype, {n_hidden, n_in, n_experts, 1}, 82, 0.3f);
        const std::vector<float> x = random_values(n_tokens * n_in, 83);
        const std::vector<float> logits = random_values(n_tokens * n_experts, 84);
        const Routing routing = run_route(*make_cpu_backend(1, CpuTier::scalar), shape, logits);
        // Enough uses for the kernels of few and of many tokens.
        std::array<int64_t, 5> n_uses = {};
        for (const int32_t id : routing.ids) ++n_uses[static_cast<size_t>(id)];
        REQUIRE(*std::ranges::min_element(n_uses) <= kSmallBatch);
        REQUIRE(*std::ranges::max_element(n_uses) > kSmallBatch);
        const std::vector<float> up_values = up.decoded(), down_values = down.decoded();
        std::vector<double> expected;
        for (int64_t t = 0; t < n_tokens; ++t) {
            std::vector<double> y(static_cast<size_t>(n_in), 0.0);
            for (int64_t slot = t * n_used; slot < (t + 1) * n_used; ++slot) {
                const int64_t e = routing.ids[static_cast<size_t>(slot)];
                std::vector<double> hidden;
                for (int64_t f = 0; f < n_hidden; ++f) {
                    double sum = 0.0;
                    for (int64_t i = 0; i < n_in; ++i)
                        sum += as_double(
                                   up_values[static_cast<size_t>((e * n_hidden + f) * n_in + i)]) *
                               as_double(x[static_cast<size_t>(t * n_in + i)]);
                    hidden.push_back(sum > 0.0 ? sum * sum : 0.0);
                }
                for (int64_t i = 0; i < n_in; ++i) {
                    double sum = 0.0;
                    for (int64_t f = 0; f < n_hidden; ++f)
                        sum +=
                            as_double(
                                down_values[static_cast<size_t>((e * n_in + i) * n_hidden + f)]) *
                            hidden[static_cast<size_t>(f)];
                    y[static_cast<size_t>(i)] +=
                        as_double(routing.weights[static_cast<size_t>(slot)]) * sum;
                }
            }
            expected.insert(expected.end(), y.begin(), y.end());
        }
        const auto run = [&](Backend& backend, int64_t first, int64_t n) {
            std::vector<float> y(static_cast<size_t>(n * n_in), 5.0f);
            backend.experts(up.weight(), down.weight(), shape, routing.ids.data() + first * n_used,
                            routing.weights.data() + first * n_used, x.data() + first * n_in, n,
                            y.data());
            return y;
        };
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            CAPTURE(dtype_info(dtype).name);
            const std::vector<float> whole = same_for_all_threads(
                tier, [&](Backend& backend) { return run(backend, 0, n_tokens); });
            // Block formats round the activations of both products to int8.
            const bool is_float = dtype == DType::f32 || dtype == DType::f16;
            check_close(whole, expected, is_float ? 3e-6 : 1.5e-2);
            std::vector<float> one_by_one;
            const auto backend = make_cpu_backend(2, tier);
            for (int64_t t = 0; t < n_tokens; ++t) {
                const std::vector<float> part = run(*backend, t, 1);
                one_by_one.insert(one_by_one.end(), part.begin(), part.end());
            }
            CHECK(one_by_one == whole);
        }
    }
}

TEST_CASE("experts: every expert of an NVFP4 tensor has its own factor") {
    const RouterShape shape = {.n_experts = 3, .n_used = 2};
    const TestTensor up = random_tensor(DType::nvfp4, {64, 64, 3, 1}, 91),
                     down = random_tensor(DType::nvfp4, {64, 64, 3, 1}, 92);
    const std::vector<float> factors = {0.5f, 64.0f, 2.0f};
    Weight scaled = down.weight();
    scaled.scale = factors.data();
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    for (const int64_t n_tokens : {int64_t{1}, kSmallBatch + 1}) {
        const std::vector<float> x = random_values(64 * n_tokens, 93);
        std::vector<int32_t> ids;
        std::vector<float> weights, scaled_weights;
        for (int64_t t = 0; t < n_tokens; ++t) {
            ids.insert(ids.end(), {2, 0});
            weights.insert(weights.end(), {0.3f, 0.7f});
            scaled_weights.insert(scaled_weights.end(), {0.3f * 2.0f, 0.7f * 0.5f});
        }
        // Powers of two commute with rounding, so a factor may as well stand in the routing weight.
        std::vector<float> expected(x.size()), y(x.size());
        backend->experts(up.weight(), down.weight(), shape, ids.data(), scaled_weights.data(),
                         x.data(), n_tokens, expected.data());
        backend->experts(up.weight(), scaled, shape, ids.data(), weights.data(), x.data(), n_tokens,
                         y.data());
        CHECK(y == expected);
    }
}
