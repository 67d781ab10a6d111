// The encoders that search: how close they come, that weights count, and rows at the edges.
#include "quant/codec.h"
#include "quant/encode_tier.h"
#include "quant/half.h"
#include "tests/quant/encoder_data.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nemo {
namespace {

// relative_error() of llama.cpp's encoder (ggml_quantize_chunk, snapshot of August 2026) for
// encoder_values(false) and encoder_values(true), each without and with encoder_importance().
struct Ceiling {
    DType dtype;
    double normal, normal_weighted, heavy, heavy_weighted;
};

constexpr Ceiling kCeilings[] = {
    {DType::q4_0, 0.082481, 0.060982, 0.135545, 0.104900},
    {DType::q4_1, 0.077744, 0.047325, 0.099737, 0.058826},
    {DType::q5_0, 0.041347, 0.031181, 0.067962, 0.056883},
    {DType::q5_1, 0.037503, 0.022638, 0.049618, 0.028089},
    {DType::q8_0, 0.005138, 0.005013, 0.008474, 0.007211},
    {DType::q2_k, 0.285790, 0.167494, 0.358606, 0.180867},
    {DType::q3_k, 0.148767, 0.106104, 0.202191, 0.140206},
    {DType::q4_k, 0.069810, 0.048663, 0.092543, 0.062530},
    {DType::q5_k, 0.035606, 0.025350, 0.047578, 0.033560},
    {DType::q6_k, 0.016695, 0.012112, 0.025282, 0.020100},
    {DType::iq4_nl, 0.074710, 0.057326, 0.105586, 0.077548},
    {DType::iq4_xs, 0.075172, 0.058230, 0.106407, 0.081734},
    {DType::mxfp4, 0.111764, 0.113154, 0.144835, 0.145227},
    {DType::nvfp4, 0.095231, 0.091011, 0.092371, 0.087656},
};

std::vector<float> there_and_back(DType dtype, const std::vector<float>& values,
                                  const float* importance = nullptr) {
    return decode(dtype, encode(dtype, values, importance));
}

TEST_CASE("every encoder is at least as close as llama.cpp's") {
    const std::vector<float> weights = encoder_importance();
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        for (const bool heavy : {false, true}) {
            const std::vector<float> values = encoder_values(heavy);
            const auto error = [&](const float* importance) {
                return relative_error(values, there_and_back(ceiling.dtype, values, importance),
                                      importance);
            };
            constexpr double kLastDigit = 5e-7;
            CHECK(error(nullptr) <= (heavy ? ceiling.heavy : ceiling.normal) + kLastDigit);
            CHECK(error(weights.data()) <=
                  (heavy ? ceiling.heavy_weighted : ceiling.normal_weighted) + kLastDigit);
        }
    }
}

TEST_CASE("weights lower the error where they are large") {
    const std::vector<float> values = encoder_values(false), weights = encoder_importance();
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        const auto error = [&](const float* importance) {
            return relative_error(values, there_and_back(ceiling.dtype, values, importance),
                                  weights.data());
        };
        // MXFP4 can only choose between powers of two.
        CHECK(error(weights.data()) <
              (ceiling.dtype == DType::mxfp4 ? 0.995 : 0.96) * error(nullptr));
        // Only ratios count: a power of two changes no bit.
        std::vector<float> scaled = weights;
        for (float& weight : scaled) weight *= 0x1p-20f;
        CHECK(encode(ceiling.dtype, values, scaled.data()) ==
              encode(ceiling.dtype, values, weights.data()));
    }
}

TEST_CASE("what was decoded encodes to nearly itself") {
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        const std::vector<float> values = encoder_values(false);
        const std::vector<float> once = there_and_back(ceiling.dtype, values);
        const std::vector<float> twice = there_and_back(ceiling.dtype, once);
        CHECK(relative_error(once, twice, nullptr) <= 0.35 * relative_error(values, once, nullptr));
    }
}

// Those that this processor has, the baseline first.
std::vector<const RowTier*> row_tiers() {
    std::vector<const RowTier*> tiers = {&baseline_tier()};
    if (__builtin_cpu_supports("avx2")) tiers.push_back(&avx2_tier());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        tiers.push_back(&avx512_tier());
    return tiers;
}

TEST_CASE("all instruction sets write the same bytes") {
    const std::vector<float> values = encoder_values(true), weights = encoder_importance();
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        for (const float* importance :
             std::initializer_list<const float*>{nullptr, weights.data()}) {
            const auto bytes = [&](WeightedEncoder encoder) {
                std::vector<std::byte> target(encode(ceiling.dtype, values).size());
                encoder(values.data(), target.data(), kTestRow, importance);
                return target;
            };
            const std::vector<std::byte> expected =
                bytes(baseline_tier().weighted_encoder(ceiling.dtype));
            for (const RowTier* tier : row_tiers())
                CHECK(bytes(tier->weighted_encoder(ceiling.dtype)) == expected);
        }
    }
}

TEST_CASE("all instruction sets widen, measure and round alike") {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> values = encoder_values(true);
    // A block of codes halfway between two and one just below, one of zeros, one that is too small
    // for its scale.
    for (size_t i = 0; i < 32; ++i) values[i] = i == 0 ? 127.0f : static_cast<float>(i) - 15.5f;
    values[20] = -std::nextafter(0.5f, 0.0f);
    std::fill_n(values.begin() + 32, 32, -0.0f);
    std::fill_n(values.begin() + 64, 32, 0x1p-140f);
    for (const RowTier* tier : row_tiers()) {
        std::vector<std::byte> codes(kTestRow / 32 * 34), expected(codes.size());
        baseline_tier().encode_plain_q8_0(values.data(), expected.data(), kTestRow);
        tier->encode_plain_q8_0(values.data(), codes.data(), kTestRow);
        CHECK(codes == expected);
        for (const int i : {1, 2, 15, 16, 31}) {
            const float value = static_cast<float>(i) - 15.5f;
            CHECK(std::to_integer<int8_t>(codes[static_cast<size_t>(2 + i)]) ==
                  static_cast<int8_t>(std::round(value)));
        }
        CHECK(codes[2 + 20] == std::byte{0});
        CHECK(std::ranges::all_of(codes.begin() + 34, codes.begin() + 3 * 34,
                                  [](std::byte byte) { return byte == std::byte{0}; }));

        // Every length, so that every place of the last vector is one of the row's ends.
        std::vector<uint16_t> halves(70);
        for (size_t n = 0; n <= halves.size(); ++n) {
            for (size_t i = 0; i < n; ++i) halves[i] = static_cast<uint16_t>(0x3f80 + 0x8007 * i);
            std::vector<float> widened(n + 1, 7.0f);
            tier->decode_bf16(std::as_bytes(std::span(halves)).data(), widened.data(),
                              static_cast<int64_t>(n));
            float largest = 0.0f;
            for (size_t i = 0; i < n; ++i) {
                CHECK(widened[i] == bf16_to_f32(halves[i]));
                largest = std::max(largest, std::fabs(widened[i]));
            }
            CHECK(widened[n] == 7.0f);
            CHECK(tier->largest_magnitude(widened.data(), static_cast<int64_t>(n)) == largest);
            if (n == 0) continue;
            widened[n / 2] = -kInfinity;
            CHECK(tier->largest_magnitude(widened.data(), static_cast<int64_t>(n)) == kInfinity);
            widened[n - 1] = -kNan;
            CHECK(std::isnan(tier->largest_magnitude(widened.data(), static_cast<int64_t>(n))));
        }
    }
}

TEST_CASE("a row of any number of blocks is its blocks one by one") {
    const std::vector<float> values = encoder_values(false), weights = encoder_importance();
    for (const Ceiling& ceiling : kCeilings) {
        const DTypeInfo& info = dtype_info(ceiling.dtype);
        CAPTURE(std::string(info.name));
        const std::vector<std::byte> whole = encode(ceiling.dtype, values, weights.data());
        std::vector<std::byte> parts(whole.size());
        std::byte* target = parts.data();
        for (int64_t i = 0, n = 1; i < kTestRow; i += n * info.block_size) {
            n = std::min<int64_t>(n + 1, (kTestRow - i) / info.block_size);
            encode_row(ceiling.dtype, values.data() + i, target, n * info.block_size,
                       weights.data() + i);
            target += n * info.block_bytes;
        }
        CHECK(parts == whole);
    }
}

// Named rows of 512.
std::vector<std::pair<std::string, std::vector<float>>> edge_rows() {
    constexpr size_t kRow = 512;
    std::vector<float> spike(kRow), alternating(kRow), mixed(kRow), ramp(kRow), below_zero(kRow);
    spike[300] = -2.5e38f;
    for (size_t i = 0; i < kRow; ++i) {
        alternating[i] = i % 2 == 0 ? 3.4e38f : -3.4e38f;
        mixed[i] = i % 3 == 0 ? 1e38f : 1e-38f;
        ramp[i] = 1e30f * static_cast<float>(i);
        below_zero[i] = -1.0f - static_cast<float>(i % 7);
    }
    return {{"zero", std::vector<float>(kRow, 0.0f)},
            {"negative zero", std::vector<float>(kRow, -0.0f)},
            {"least subnormal", std::vector<float>(kRow, 1e-45f)},
            {"subnormal", std::vector<float>(kRow, -1e-40f)},
            {"tiny", std::vector<float>(kRow, 1e-20f)},
            {"constant", std::vector<float>(kRow, 0.37f)},
            {"negative constant", std::vector<float>(kRow, -0.37f)},
            {"largest", std::vector<float>(kRow, 3.4028235e38f)},
            {"spike", spike},
            {"alternating", alternating},
            {"mixed", mixed},
            {"ramp", ramp},
            {"below zero", below_zero}};
}

TEST_CASE("zero, constant, tiny and huge rows stay finite") {
    std::vector<float> no_weight(512, 0.0f), one_weight(512, 0.0f), huge_weight(512, 1e38f);
    one_weight[300] = 1.0f;
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        for (const auto& [name, values] : edge_rows()) {
            CAPTURE(name);
            for (const float* importance : std::initializer_list<const float*>{
                     nullptr, no_weight.data(), one_weight.data(), huge_weight.data()}) {
                const std::vector<float> decoded =
                    there_and_back(ceiling.dtype, values, importance);
                CHECK(std::ranges::all_of(decoded, [](float v) { return std::isfinite(v); }));
                if (name.ends_with("zero") && name[0] != 'b')
                    CHECK(std::ranges::all_of(decoded, [](float v) { return v == 0.0f; }));
            }
        }
    }
}

TEST_CASE("constants keep their value and sign") {
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        // Positive constants have a scale, negative ones a minimum alone in the K formats.
        for (const float value : {0.37f, -0.37f}) {
            const std::vector<float> values(512, value);
            CHECK(relative_error(values, there_and_back(ceiling.dtype, values), nullptr) < 0.13);
        }
    }
}

TEST_CASE("weights that are all zero count as equal") {
    const std::vector<float> values = encoder_values(true);
    const std::vector<float> zeros(values.size(), 0.0f), ones(values.size(), 1.0f);
    for (const Ceiling& ceiling : kCeilings) {
        CAPTURE(std::string(dtype_info(ceiling.dtype).name));
        CHECK(encode(ceiling.dtype, values, zeros.data()) ==
              encode(ceiling.dtype, values, ones.data()));
    }
}

}  // namespace
}  // namespace nemo
