// Shared by the kernel tests: random data, tensors in every format, and running an operation in
// every tier with several thread counts.
#pragma once

#include "kernels/cpu/cpu_backend.h"
#include "quant/codec.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace nemo {

inline std::vector<CpuTier> tiers_here() {
    std::vector<CpuTier> tiers;
    for (const CpuTier tier : {CpuTier::scalar, CpuTier::avx2, CpuTier::avxvnni, CpuTier::avx512})
        if (cpu_tier_supported(tier)) tiers.push_back(tier);
    return tiers;
}

inline std::vector<float> random_values(int64_t n, uint32_t seed, float scale = 1.0f) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = normal(engine);
    return values;
}

// A tensor that owns its bytes.
struct TestTensor {
    std::vector<std::byte> bytes;
    TensorView view;

    Weight weight() const { return {.view = view}; }
    std::vector<float> decoded() const {
        std::vector<float> values(static_cast<size_t>(view.n_elements()));
        decode_row(view.dtype, view.data, values.data(), view.n_elements());
        return values;
    }
};

inline TestTensor make_tensor(DType dtype, std::array<int64_t, 4> dims,
                              std::vector<std::byte> bytes) {
    TestTensor tensor{.bytes = std::move(bytes),
                      .view = {.name = "test", .dtype = dtype, .dims = dims}};
    REQUIRE(tensor.view.n_bytes() == std::ssize(tensor.bytes));
    tensor.view.data = tensor.bytes.data();
    return tensor;
}

inline TestTensor f32_tensor(std::array<int64_t, 4> dims, const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return make_tensor(DType::f32, dims, std::move(bytes));
}

inline TestTensor random_tensor(DType dtype, std::array<int64_t, 4> dims, uint32_t seed,
                                float scale = 0.1f) {
    const int64_t n = dims[0] * dims[1] * dims[2] * dims[3];
    const DTypeInfo& info = dtype_info(dtype);
    std::vector<std::byte> bytes(static_cast<size_t>(n / info.block_size * info.block_bytes));
    encode_row(dtype, random_values(n, seed, scale).data(), bytes.data(), n);
    return make_tensor(dtype, dims, std::move(bytes));
}

inline std::vector<float> run_matmul(Backend& backend, const TestTensor& weight,
                                     const std::vector<float>& x, int64_t n_tokens,
                                     Epilogue epilogue = Epilogue::store, const Weight& bias = {},
                                     float start = 0.0f) {
    std::vector<float> y(static_cast<size_t>(n_tokens * weight.view.dims[1]), start);
    backend.matmul(weight.weight(), x.data(), n_tokens, y.data(), epilogue, bias);
    return y;
}

// The result of run(backend) with one thread, after checking that 2 and 5 threads give the same
// bits.
template <class Run>
std::vector<float> same_for_all_threads(CpuTier tier, Run run) {
    const std::vector<float> expected = run(*make_cpu_backend(1, tier));
    for (const int n_threads : {2, 5}) {
        CAPTURE(n_threads);
        CHECK(run(*make_cpu_backend(n_threads, tier)) == expected);
    }
    return expected;
}

// |actual - expected| <= tolerance * |magnitude|, elementwise. The magnitude is usually the sum of
// absolute terms, which is what rounding errors scale with.
inline void check_close(const std::vector<float>& actual, const std::vector<double>& expected,
                        const std::vector<double>& magnitude, double tolerance) {
    REQUIRE(actual.size() == expected.size());
    double worst = 0.0;
    for (size_t i = 0; i < actual.size(); ++i) {
        const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
        const double relative = error / (std::fabs(magnitude[i]) + 1e-30);
        if (!(relative <= worst)) worst = relative;  // also catches NaN
    }
    CHECK(worst <= tolerance);
}

inline void check_close(const std::vector<float>& actual, const std::vector<double>& expected,
                        double tolerance) {
    double largest = 0.0;
    for (const double value : expected) largest = std::max(largest, std::fabs(value));
    check_close(actual, expected, std::vector<double>(expected.size(), largest), tolerance);
}

inline std::string name_of(CpuTier tier) {
    return std::string(cpu_tier_name(tier));
}

// How a prompt of 65 tokens is cut up in the tests.
inline const std::vector<std::vector<int64_t>> kSplits = {
    {65}, {1, 64}, {64, 1}, {2, 3, 60}, {5, 1, 1, 58}};

}  // namespace nemo
