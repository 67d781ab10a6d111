// Convolution, scan and gated norm against plain loops in double that follow the paper's formulas,
// in every tier, for odd shapes, any split of the tokens and any number of threads.
#include "tests/kernels/helpers.h"

#include <algorithm>
#include <functional>

using namespace nemo;

namespace {

double as_double(float value) {
    return static_cast<double>(value);
}
double silu(double x) {
    return x / (1.0 + std::exp(-x));
}

// Results of several calls one after the other, and the state after the last.
struct Outcome {
    std::vector<float> y, state;
};

struct ConvCase {
    Mamba2Shape shape;
    TestTensor weight, bias;
    std::vector<float> x, state;
    int64_t x_stride = 0;
    bool has_bias = true;
};

ConvCase conv_case(int64_t channels, int64_t kernel, int64_t n_tokens, bool has_bias = true) {
    // Any split of the channels over x, B and C is the same to the convolution.
    const Mamba2Shape shape = {.n_heads = 1,
                               .head_dim = channels - 2,
                               .state_size = 1,
                               .n_groups = 1,
                               .conv_kernel = kernel};
    REQUIRE(shape.conv_dim() == channels);
    return {.shape = shape,
            .weight = f32_tensor({kernel, channels, 1, 1}, random_values(kernel * channels, 1)),
            .bias = f32_tensor({channels, 1, 1, 1}, random_values(channels, 2)),
            .x = random_values(n_tokens * (channels + 5), 3, 3.0f),
            .state = random_values((kernel - 1) * channels, 4),
            .x_stride = channels + 5,
            .has_bias = has_bias};
}

Outcome run_conv(Backend& backend, const ConvCase& c, const std::vector<int64_t>& split) {
    const int64_t channels = c.shape.conv_dim();
    Outcome outcome{.y = {}, .state = c.state};
    int64_t token = 0;
    for (const int64_t n : split) {
        std::vector<float> y(static_cast<size_t>(n * channels));
        backend.conv_silu(c.shape, c.x.data() + token * c.x_stride, c.x_stride, c.weight.weight(),
                          c.has_bias ? c.bias.weight() : Weight{}, outcome.state.data(), n,
                          y.data());
        outcome.y.insert(outcome.y.end(), y.begin(), y.end());
        token += n;
    }
    return outcome;
}

void check_conv(const ConvCase& c, int64_t n_tokens) {
    const int64_t channels = c.shape.conv_dim(), kernel = c.shape.conv_kernel;
    const std::vector<float> w = c.weight.decoded(), b = c.bias.decoded();
    const auto input = [&](int64_t token, int64_t channel) {
        return token < 0 ? c.state[static_cast<size_t>((kernel - 1 + token) * channels + channel)]
                         : c.x[static_cast<size_t>(token * c.x_stride + channel)];
    };
    std::vector<double> y;
    std::vector<float> state;
    for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t j = 0; j < channels; ++j) {
            double sum = c.has_bias ? as_double(b[static_cast<size_t>(j)]) : 0.0;
            for (int64_t k = 0; k < kernel; ++k)
                sum += as_double(w[static_cast<size_t>(j * kernel + k)]) *
                       as_double(input(t - (kernel - 1) + k, j));
            y.push_back(silu(sum));
        }
    for (int64_t t = n_tokens - (kernel - 1); t < n_tokens; ++t)
        for (int64_t j = 0; j < channels; ++j) state.push_back(input(t, j));

    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const Outcome outcome = run_conv(*make_cpu_backend(1, tier), c, {n_tokens});
        check_close(outcome.y, y, 1e-6);
        CHECK(outcome.state == state);
    }
}

struct ScanCase {
    Mamba2Shape shape;
    std::vector<float> xbc, dt, a, d, dt_bias, state;
    int64_t dt_stride = 0;
};

ScanCase scan_case(int64_t heads, int64_t dim, int64_t states, int64_t groups, int64_t n_tokens) {
    const Mamba2Shape shape = {.n_heads = heads,
                               .head_dim = dim,
                               .state_size = states,
                               .n_groups = groups,
                               .conv_kernel = 4};
    ScanCase c{.shape = shape,
               .xbc = random_values(n_tokens * shape.conv_dim(), 11),
               .dt = random_values(n_tokens * (heads + 3), 12, 2.0f),
               .a = random_values(heads, 13),
               .d = random_values(heads, 14),
               .dt_bias = random_values(heads, 15),
               .state = random_values(shape.ssm_state_size(), 16),
               .dt_stride = heads + 3};
    for (float& a : c.a) a = -std::exp(a);
    c.a[0] = -200.0f;  // forgets everything at once: exp underflows
    c.dt[0] = 30.0f;   // beyond the threshold of softplus
    return c;
}

Outcome run_scan(Backend& backend, const ScanCase& c, const std::vector<int64_t>& split) {
    Outcome outcome{.y = {}, .state = c.state};
    int64_t token = 0;
    for (const int64_t n : split) {
        std::vector<float> y(static_cast<size_t>(n * c.shape.d_inner()));
        backend.ssm_scan({.shape = c.shape,
                          .xbc = c.xbc.data() + token * c.shape.conv_dim(),
                          .dt = c.dt.data() + token * c.dt_stride,
                          .dt_stride = c.dt_stride,
                          .a = c.a.data(),
                          .d = c.d.data(),
                          .dt_bias = c.dt_bias.data(),
                          .state = outcome.state.data(),
                          .y = y.data(),
                          .n_tokens = n});
        outcome.y.insert(outcome.y.end(), y.begin(), y.end());
        token += n;
    }
    return outcome;
}

void check_scan(const ScanCase& c, int64_t n_tokens) {
    const auto& s = c.shape;
    const auto at = [](const std::vector<float>& v, int64_t i) {
        return as_double(v[static_cast<size_t>(i)]);
    };
    std::vector<double> state(c.state.begin(), c.state.end());  // [H, N, P]
    std::vector<double> y(static_cast<size_t>(n_tokens * s.d_inner()));
    for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t h = 0; h < s.n_heads; ++h) {
            const int64_t group = h / (s.n_heads / s.n_groups), row = t * s.conv_dim();
            const double raw = at(c.dt, t * c.dt_stride + h) + at(c.dt_bias, h);
            const double dt = raw > 20.0 ? raw : std::log1p(std::exp(raw));
            for (int64_t p = 0; p < s.head_dim; ++p) {
                const double x = at(c.xbc, row + h * s.head_dim + p);
                double sum = at(c.d, h) * x;
                for (int64_t n = 0; n < s.state_size; ++n) {
                    const int64_t b = row + s.d_inner() + group * s.state_size + n;
                    double& value =
                        state[static_cast<size_t>((h * s.state_size + n) * s.head_dim + p)];
                    value = std::exp(dt * at(c.a, h)) * value + dt * x * at(c.xbc, b);
                    sum += value * at(c.xbc, b + s.n_groups * s.state_size);
                }
                y[static_cast<size_t>(t * s.d_inner() + h * s.head_dim + p)] = sum;
            }
        }
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const Outcome outcome = run_scan(*make_cpu_backend(1, tier), c, {n_tokens});
        // With one head and the large dt, y is what is left of terms that are ten times larger.
        check_close(outcome.y, y, 1e-5);
        check_close(outcome.state, state, 2e-6);
    }
}

// All splits of 65 tokens and all thread counts give the bits of one call with one thread.
void check_splits(const std::function<Outcome(Backend&, const std::vector<int64_t>&)>& run) {
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const Outcome whole = run(*make_cpu_backend(1, tier), kSplits[0]);
        for (const std::vector<int64_t>& split : kSplits)
            for (const int n_threads : {1, 2, 5}) {
                const Outcome outcome = run(*make_cpu_backend(n_threads, tier), split);
                CHECK(outcome.y == whole.y);
                CHECK(outcome.state == whole.state);
            }
    }
}

}  // namespace

TEST_CASE("conv_silu: kernels of 1 to 8, odd numbers of channels, fewer tokens than taps") {
    for (const int64_t kernel : {1, 2, 3, 4, 5, 6, 7, 8})
        for (const int64_t channels : {3, 16, 17, 40, 257, 530})
            for (const int64_t n_tokens : {1, 2, 3, 5, 9}) {
                CAPTURE(kernel);
                CAPTURE(channels);
                CAPTURE(n_tokens);
                check_conv(conv_case(channels, kernel, n_tokens, channels % 2 == 1), n_tokens);
            }
}

TEST_CASE("conv_silu: very large and very small inputs") {
    ConvCase c = conv_case(20, 1, 4, false);
    for (size_t i = 0; i < c.x.size(); ++i) c.x[i] *= i % 2 == 0 ? 1e4f : 1e-20f;
    check_conv(c, 4);
}

TEST_CASE("conv_silu: same bits for any split and thread count") {
    const ConvCase c = conv_case(530, 4, 65);
    check_splits([&](Backend& backend, const auto& split) { return run_conv(backend, c, split); });
}

TEST_CASE("ssm_scan: odd head dims, state sizes and groups") {
    for (const auto& [heads, groups] : {std::pair{1, 1}, {4, 1}, {6, 3}})
        for (const int64_t dim : {1, 8, 16, 24, 64, 80})
            for (const int64_t states : {1, 16, 96})
                for (const int64_t n_tokens : {1, 2, 5}) {
                    CAPTURE(heads);
                    CAPTURE(dim);
                    CAPTURE(states);
                    CAPTURE(n_tokens);
                    check_scan(scan_case(heads, dim, states, groups, n_tokens), n_tokens);
                }
}

TEST_CASE("ssm_scan: same bits for any split and thread count") {
    const ScanCase c = scan_case(6, 40, 32, 3, 65);
    check_splits([&](Backend& backend, const auto& split) { return run_scan(backend, c, split); });
    check_scan(c, 65);
}

TEST_CASE("gated_group_norm: gate before norm, per group, for odd sizes") {
    for (const auto& [n, n_groups] : {std::pair{24, 1}, {24, 3}, {35, 5}, {512, 2}, {1920, 3}}) {
        const int64_t n_tokens = 5, stride = n + 7, size = n / n_groups;
        const std::vector<float> y = random_values(n_tokens * n, 21),
                                 z = random_values(n_tokens * stride, 22, 2.0f),
                                 w = random_values(n, 23);
        const TestTensor weight = f32_tensor({n, 1, 1, 1}, w);
        const float eps = 1e-5f;
        std::vector<double> expected;
        for (int64_t t = 0; t < n_tokens; ++t)
            for (int64_t first = 0; first < n; first += size) {
                std::vector<double> v;
                double squares = 0.0;
                for (int64_t i = first; i < first + size; ++i) {
                    v.push_back(as_double(y[static_cast<size_t>(t * n + i)]) *
                                silu(as_double(z[static_cast<size_t>(t * stride + i)])));
                    squares += v.back() * v.back();
                }
                const double scale =
                    1.0 / std::sqrt(squares / static_cast<double>(size) + as_double(eps));
                for (int64_t i = 0; i < size; ++i)
                    expected.push_back(v[static_cast<size_t>(i)] * scale *
                                       as_double(w[static_cast<size_t>(first + i)]));
            }
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            CAPTURE(n);
            const std::vector<float> actual = same_for_all_threads(tier, [&](Backend& backend) {
                std::vector<float> values = y;
                backend.gated_group_norm(values.data(), z.data(), stride, weight.weight(), eps,
                                         n_tokens, n, n_groups);
                return values;
            });
            check_close(actual, expected, 1e-6);
        }
    }
}
