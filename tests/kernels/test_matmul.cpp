// Matrix products in every format and tier against sums in double.
//
// Tolerance 2.5e-6 of the sum of |w x|: with 16 lanes, a row of 512 makes chains of 32 additions
// and a tree of 4, each rounding to 6e-8. Products with int8 activations are compared with the
// double product of the same rounded activations, so the same bound holds for them.
#include "tests/kernels/helpers.h"

#include <algorithm>

using namespace nemo;

namespace {

constexpr double kTolerance = 2.5e-6;

bool uses_int8(DType dtype) {
    return dtype == DType::q8_0 || dtype == DType::q4_0;
}

// Activations after rounding to int8 per block of 32, written independently of the kernel.
std::vector<float> rounded_to_int8(const std::vector<float>& x) {
    std::vector<float> result(x.size());
    for (size_t i = 0; i < x.size(); i += 32) {
        float largest = 0.0f;
        for (size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::fabs(x[j]));
        const float d = largest / 127.0f;
        // 11 significant bits.
        int exponent = 0;
        const float mantissa = std::frexp(d, &exponent);
        const float scale = std::ldexp(std::nearbyint(mantissa * 2048.0f), exponent - 11);
        for (size_t j = i; j < i + 32; ++j)
            result[j] = d == 0.0f ? 0.0f : std::nearbyint(x[j] * (127.0f / largest)) * scale;
    }
    return result;
}

struct Expected {
    std::vector<double> value, magnitude;
};

Expected product(const std::vector<float>& w, const std::vector<float>& x, int64_t n_in,
                 int64_t n_out) {
    Expected expected;
    for (size_t t = 0; t < x.size(); t += static_cast<size_t>(n_in)) {
        for (size_t row = 0; row < static_cast<size_t>(n_in * n_out);
             row += static_cast<size_t>(n_in)) {
            double sum = 0.0, magnitude = 0.0;
            for (size_t i = 0; i < static_cast<size_t>(n_in); ++i) {
                const double term = static_cast<double>(w[row + i]) * static_cast<double>(x[t + i]);
                sum += term;
                magnitude += std::fabs(term);
            }
            expected.value.push_back(sum);
            expected.magnitude.push_back(magnitude);
        }
    }
    return expected;
}

std::vector<float> run_matmul(Backend& backend, const TestTensor& weight,
                              const std::vector<float>& x, int64_t n_tokens,
                              Epilogue epilogue = Epilogue::store, const Weight& bias = {},
                              float start = 0.0f) {
    std::vector<float> y(static_cast<size_t>(n_tokens * weight.view.dims[1]), start);
    backend.matmul(weight.weight(), x.data(), n_tokens, y.data(), epilogue, bias);
    return y;
}

void check_matmul(DType dtype, int64_t n_in, int64_t n_out, int64_t n_tokens) {
    CAPTURE(dtype_info(dtype).name);
    CAPTURE(n_in);
    CAPTURE(n_out);
    CAPTURE(n_tokens);
    const TestTensor weight = random_tensor(dtype, {n_in, n_out, 1, 1}, 1);
    const std::vector<float> x = random_values(n_in * n_tokens, 2);
    const Expected expected =
        product(weight.decoded(), uses_int8(dtype) ? rounded_to_int8(x) : x, n_in, n_out);
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const auto backend = make_cpu_backend(1, tier);
        check_close(run_matmul(*backend, weight, x, n_tokens), expected.value, expected.magnitude,
                    kTolerance);
    }
}

constexpr DType kAllTypes[] = {DType::f32,   DType::f16,  DType::bf16, DType::q4_0,   DType::q4_1,
                               DType::q5_0,  DType::q5_1, DType::q8_0, DType::q2_k,   DType::q3_k,
                               DType::q4_k,  DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs,
                               DType::mxfp4, DType::nvfp4};

}  // namespace

TEST_CASE("matmul: every format, odd numbers of rows and tokens") {
    for (const DType dtype : kAllTypes) {
        const int64_t block = std::max<int64_t>(dtype_info(dtype).block_size, 32);
        for (const int64_t n_in : {block, 2 * block})
            for (const auto& [n_out, n_tokens] :
                 {std::pair{1, 1}, {7, 3}, {31, 2}, {33, 5}, {32, 1}, {65, 1}, {3, 65}})
                check_matmul(dtype, n_in, n_out, n_tokens);
    }
}

TEST_CASE("matmul: rows that are not multiples of 64, or of 16 in float formats") {
    for (const DType dtype : {DType::q8_0, DType::q4_0})
        for (const int64_t n_in : {32, 96, 160, 480}) check_matmul(dtype, n_in, 35, 6);
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
        for (const int64_t n_in : {1, 7, 15, 17, 24, 100, 511}) check_matmul(dtype, n_in, 5, 6);
}

TEST_CASE("matmul: the same bits for any number of threads and any split of the tokens") {
    for (const DType dtype : {DType::f32, DType::f16, DType::q8_0, DType::q4_0, DType::q5_k}) {
        const int64_t n_in = 768, n_out = 77;
        const TestTensor weight = random_tensor(dtype, {n_in, n_out, 1, 1}, 3);
        const std::vector<float> x = random_values(n_in * 65, 4);
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            CAPTURE(dtype_info(dtype).name);
            std::vector<float> whole;
            for (const std::vector<int64_t>& split : kSplits) {
                const std::vector<float> y = same_for_all_threads(tier, [&](Backend& backend) {
                    std::vector<float> result;
                    int64_t token = 0;
                    for (const int64_t n : split) {
                        const std::vector<float> chunk(x.begin() + token * n_in,
                                                       x.begin() + (token + n) * n_in);
                        const std::vector<float> part = run_matmul(backend, weight, chunk, n);
                        result.insert(result.end(), part.begin(), part.end());
                        token += n;
                    }
                    return result;
                });
                if (whole.empty()) whole = y;
                CHECK(y == whole);
            }
        }
    }
}

TEST_CASE("matmul: long rows, whose activations are taken in small blocks of tokens") {
    check_matmul(DType::q8_0, 512, 9, 66);
    const int64_t n_in = 21504, n_tokens = 9;
    const TestTensor weight = random_tensor(DType::q8_0, {n_in, 3, 1, 1}, 1);
    const std::vector<float> x = random_values(n_in * n_tokens, 2);
    const Expected expected = product(weight.decoded(), rounded_to_int8(x), n_in, 3);
    for (const CpuTier tier : tiers_here())
        check_close(run_matmul(*make_cpu_backend(2, tier), weight, x, n_tokens), expected.value,
                    expected.magnitude,
                    1e-4);  // chains of 336 or, in the scalar tier, 672 additions
}

TEST_CASE("matmul: integer dot products are exact and equal in all tiers, extremes included") {
    // Scales of 1 and activations whose largest is 127: the result is the integer sum, below 2^24.
    constexpr int64_t kIn = 480, kTokens = 5;
    std::mt19937 engine(5);
    for (const DType dtype : {DType::q8_0, DType::q4_0}) {
        const DTypeInfo& info = dtype_info(dtype);
        std::vector<std::byte> bytes(static_cast<size_t>(3 * kIn / 32 * info.block_bytes));
        for (size_t i = 0; i < bytes.size(); ++i) {
            const size_t at = i % static_cast<size_t>(info.block_bytes);
            bytes[i] = static_cast<std::byte>(at == 0 ? 0 : at == 1 ? 0x3c : engine() & 255u);
            // The first row holds the largest magnitudes only: -128, or codes of 0.
            if (at > 1 && i < bytes.size() / 3)
                bytes[i] = static_cast<std::byte>(dtype == DType::q8_0 ? 0x80 : 0);
        }
        const TestTensor weight = make_tensor(dtype, {kIn, 3, 1, 1}, std::move(bytes));
        std::vector<float> x(static_cast<size_t>(kIn * kTokens));
        for (size_t i = 0; i < x.size(); ++i)
            x[i] =
                i % 32 == 0 ? 127.0f : static_cast<float>(static_cast<int>(engine() % 255) - 127);
        std::fill_n(x.begin(), kIn, -127.0f);
        const std::vector<double> expected = product(weight.decoded(), x, kIn, 3).value;
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            const auto backend = make_cpu_backend(1, tier);
            check_close(run_matmul(*backend, weight, x, kTokens), expected, 0.0);
        }
    }
}

TEST_CASE("matmul: int8 codes of activations are the same in all tiers") {
    std::vector<float> x = random_values(96 * 50, 6);
    std::fill_n(x.begin() + 32, 32, 0.0f);
    std::fill_n(x.begin() + 64, 32, 1e-42f);
    std::vector<ActivationPair> expected(75), actual(75);
    kScalarOps.quantize(x.data(), std::ssize(x), 128, expected.data());
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        tier_ops(tier).quantize(x.data(), std::ssize(x), 128, actual.data());
        CHECK(std::memcmp(expected.data(), actual.data(), sizeof(ActivationPair) * 75) == 0);
    }
}

TEST_CASE("matmul: epilogues and bias") {
    const TestTensor weight = random_tensor(DType::f32, {40, 37, 1, 1}, 7, 0.5f);
    const std::vector<float> x = random_values(40 * 3, 8), bias = random_values(37, 9);
    const TestTensor bias_tensor = f32_tensor({37, 1, 1, 1}, bias);
    for (const CpuTier tier : tiers_here()) {
        const auto backend = make_cpu_backend(2, tier);
        const std::vector<float> v = run_matmul(*backend, weight, x, 3);
        const std::vector<float> added =
            run_matmul(*backend, weight, x, 3, Epilogue::add, {}, 2.0f);
        const std::vector<float> squared = run_matmul(*backend, weight, x, 3, Epilogue::relu2);
        const std::vector<float> biased =
            run_matmul(*backend, weight, x, 3, Epilogue::store, bias_tensor.weight());
        const std::vector<float> all =
            run_matmul(*backend, weight, x, 3, Epilogue::relu2, bias_tensor.weight());
        for (size_t i = 0; i < v.size(); ++i) {
            CHECK(added[i] == 2.0f + v[i]);
            CHECK(squared[i] == (v[i] > 0 ? v[i] * v[i] : 0.0f));
            CHECK(biased[i] == v[i] + bias[i % 37]);
            CHECK(all[i] == (biased[i] > 0 ? biased[i] * biased[i] : 0.0f));
        }
    }
}

TEST_CASE("matmul: NaN and infinity in F16 weights and in activations come through") {
    TestTensor weight = random_tensor(DType::f16, {32, 2, 1, 1}, 10);
    weight.bytes[1] = std::byte{0x7c};
    weight.bytes[0] = std::byte{0};
    std::vector<float> x(32, 1.0f);
    for (const CpuTier tier : tiers_here()) {
        const auto backend = make_cpu_backend(1, tier);
        CHECK(std::isinf(run_matmul(*backend, weight, x, 1)[0]));
        CHECK(std::isfinite(run_matmul(*backend, weight, x, 1)[1]));
        std::vector<float> bad = x;
        bad[5] = std::nanf("");
        CHECK(std::isnan(run_matmul(*backend, weight, bad, 1, Epilogue::relu2)[1]));
    }
}

TEST_CASE("matmul: the factor of an NVFP4 tensor is applied before the epilogue") {
    const TestTensor weight = random_tensor(DType::nvfp4, {64, 5, 1, 1}, 11);
    const std::vector<float> x = random_values(64 * 2, 12);
    const float factor = 0.375f;
    Weight scaled = weight.weight();
    scaled.scale = &factor;
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    const std::vector<float> v = run_matmul(*backend, weight, x, 2);
    std::vector<float> y(v.size());
    backend->matmul(scaled, x.data(), 2, y.data(), Epilogue::relu2);
    for (size_t i = 0; i < v.size(); ++i) {
        const float expected = v[i] * factor;
        CHECK(y[i] == (expected > 0 ? expected * expected : 0.0f));
    }
}
