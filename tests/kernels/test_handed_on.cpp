// Values that only products read (Readers of kernels/backend.h): handed on without being stored,
// with the same bits.
#include "tests/kernels/helpers.h"

#include <functional>

using namespace nemo;

namespace {

constexpr int64_t kOut = 40, kStride = 1000;  // of the gate's rows
constexpr float kEps = 1e-5f;

// The norms of x [n_tokens, n], in place.
struct NormCase {
    const char* name;
    std::function<void(Backend&, std::vector<float>& x, int64_t n_tokens, int64_t n, Readers)> run;
};

std::vector<NormCase> norm_cases(const Weight& weight, const std::vector<float>& z) {
    return {{"rms_norm",
             [=](Backend& backend, auto& x, int64_t n_tokens, int64_t n, Readers readers) {
                 backend.rms_norm(x.data(), weight, kEps, n_tokens, n, x.data(), readers);
             }},
            {"layer_norm",
             [=](Backend& backend, auto& x, int64_t n_tokens, int64_t n, Readers readers) {
                 backend.layer_norm(x.data(), weight, weight, kEps, n_tokens, n, x.data(), readers);
             }},
            {"gated_group_norm",
             [=, &z](Backend& backend, auto& x, int64_t n_tokens, int64_t n, Readers readers) {
                 backend.gated_group_norm(x.data(), z.data(), kStride, weight, kEps, n_tokens, n, 2,
                                          readers);
             }}};
}

}  // namespace

TEST_CASE("results of a product that only the next one reads are not stored") {
    constexpr int64_t kIn = 256;
    const auto check = [&](DType up_type, DType down_type, int64_t n_hidden, int64_t n_tokens) {
        CAPTURE(dtype_info(up_type).name);
        CAPTURE(dtype_info(down_type).name);
        CAPTURE(n_hidden);
        CAPTURE(n_tokens);
        const TestTensor up = random_tensor(up_type, {kIn, n_hidden, 1, 1}, 1);
        const TestTensor down = random_tensor(down_type, {n_hidden, kOut, 1, 1}, 2);
        const TestTensor bias = f32_tensor({n_hidden, 1, 1, 1}, random_values(n_hidden, 3));
        const std::vector<float> x = random_values(kIn * n_tokens, 4);
        const Weight reader = down.weight();
        for (const CpuTier tier : tiers_here())
            for (const int n_threads : {1, 2}) {
                CAPTURE(name_of(tier));
                CAPTURE(n_threads);
                const auto backend = make_cpu_backend(n_threads, tier);
                const std::vector<float> expected = run_matmul(
                    *backend, down,
                    run_matmul(*backend, up, x, n_tokens, Epilogue::relu2, bias.weight()),
                    n_tokens);
                std::vector<float> hidden(static_cast<size_t>(n_hidden * n_tokens), 2.0f);
                const std::vector<float> twos = hidden;
                const auto hand_on = [&] {
                    backend->matmul(up.weight(), x.data(), n_tokens, hidden.data(), Epilogue::relu2,
                                    bias.weight(), {&reader});
                };
                hand_on();
                CHECK(hidden == twos);
                CHECK(run_matmul(*backend, down, hidden, n_tokens) == expected);
                // Only once, and only to the next product.
                const std::vector<float> of_twos = run_matmul(*backend, down, twos, n_tokens);
                CHECK(run_matmul(*backend, down, hidden, n_tokens) == of_twos);
                hand_on();
                run_matmul(*backend, up, x, 1);
                CHECK(run_matmul(*backend, down, hidden, n_tokens) == of_twos);
            }
    };
    check(DType::q4_k, DType::q6_k, 2304, 17);
    check(DType::q4_k, DType::q4_k, 2048, 33);
    check(DType::q5_0, DType::q5_0, 2144, 21);  // the last slice has 96 columns
    check(DType::q6_k, DType::q8_0, 2080, 18);  // 32
    check(DType::q8_0, DType::q5_1, 2112, 19);
}

TEST_CASE("norms that only products read are not stored") {
    for (const auto& [dtype, n] : {std::pair{DType::q4_k, int64_t{512}}, {DType::q5_0, 672}}) {
        const TestTensor a = random_tensor(dtype, {n, kOut, 1, 1}, 1),
                         b = random_tensor(dtype, {n, 3, 1, 1}, 2),
                         other = random_tensor(DType::q8_0, {n, 9, 1, 1}, 3),
                         floats = random_tensor(DType::f16, {n, 9, 1, 1}, 4),
                         weight = f32_tensor({n, 1, 1, 1}, random_values(n, 5));
        const Weight first = a.weight(), second = b.weight(), third = other.weight(),
                     float_reader = floats.weight();
        for (const int64_t n_tokens : {16, 17, 24, 516, 517}) {
            const std::vector<float> x = random_values(n * n_tokens, 6),
                                     z = random_values(kStride * n_tokens, 7);
            for (const NormCase& norm : norm_cases(weight.weight(), z))
                for (const CpuTier tier : tiers_here()) {
                    if (n_tokens > 100 && tier != tiers_here().back()) continue;
                    CAPTURE(dtype_info(dtype).name);
                    CAPTURE(n_tokens);
                    CAPTURE(norm.name);
                    CAPTURE(name_of(tier));
                    const auto backend = make_cpu_backend(2, tier);
                    std::vector<float> normed = x;
                    norm.run(*backend, normed, n_tokens, n, {});
                    const auto of = [&](const TestTensor& w, const std::vector<float>& values) {
                        return run_matmul(*backend, w, values, n_tokens);
                    };
                    const std::vector<float> of_a = of(a, normed), of_b = of(b, normed);

                    std::vector<float> y = x;
                    norm.run(*backend, y, n_tokens, n, {&first, &second});
                    const bool is_packed = n_tokens > 16 && n_tokens <= 516;
                    CHECK(y == (is_packed ? x : normed));
                    CHECK(of(a, y) == of_a);
                    CHECK(of(b, y) == of_b);
                    // Once for each reader, and not after another product.
                    CHECK((of(a, y) == of_a) == !is_packed);
                    if (!is_packed) continue;
                    norm.run(*backend, y, n_tokens, n, {&first, &second});
                    of(a, normed);
                    CHECK(of(b, y) == of(b, x));

                    // Readers that cannot read the same packed values.
                    for (const Weight* reader : {&third, &float_reader}) {
                        y = x;
                        norm.run(*backend, y, n_tokens, n, {&first, reader});
                        CHECK(y == normed);
                        CHECK(of(a, y) == of_a);
                    }
                }
        }
    }
}

TEST_CASE("what a product hands on does not take the place of what others are still to read") {
    constexpr int64_t kIn = 256, kHidden = 2048, kTokens = 18;
    const TestTensor up = random_tensor(DType::q8_0, {kIn, kHidden, 1, 1}, 1),
                     down = random_tensor(DType::q8_0, {kHidden, kOut, 1, 1}, 2),
                     weight = f32_tensor({kIn, 1, 1, 1}, random_values(kIn, 3));
    const Weight first = up.weight(), reader = down.weight();
    const std::vector<float> x = random_values(kIn * kTokens, 4);
    const auto backend = make_cpu_backend(1, tiers_here().back());
    std::vector<float> y = x, hidden(static_cast<size_t>(kHidden * kTokens));
    backend->rms_norm(x.data(), weight.weight(), kEps, kTokens, kIn, y.data());
    const std::vector<float> expected = run_matmul(*backend, up, y, kTokens);
    y = x;
    backend->rms_norm(x.data(), weight.weight(), kEps, kTokens, kIn, y.data(), {&first, &first});
    backend->matmul(first, y.data(), kTokens, hidden.data(), Epilogue::store, {}, {&reader});
    CHECK(hidden == expected);
    CHECK(run_matmul(*backend, up, y, kTokens) == expected);
}
