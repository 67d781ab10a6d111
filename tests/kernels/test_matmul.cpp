// Matrix products in every format and tier against sums in double.
//
// Tolerance 2.5e-6 of the sum of |w x|: rows of a thousand columns make chains of a few dozen
// roundings to 6e-8 each, 5e-6 covers the longest rows here. Products with int8 activations are
// compared with the double product of the same rounded activations, so the same bound holds for
// them.
#include "kernels/cpu/matmul.h"
#include "tests/kernels/helpers.h"

#include <algorithm>
#include <map>

using namespace nemo;

namespace {

constexpr double kTolerance = 2.5e-6, kLongTolerance = 5e-6;

const std::map<DType, QuantFormat> kQuantized = {
    {DType::q4_0, QuantFormat::q4_0},     {DType::q4_1, QuantFormat::q4_1},
    {DType::q5_0, QuantFormat::q5_0},     {DType::q5_1, QuantFormat::q5_1},
    {DType::q8_0, QuantFormat::q8_0},     {DType::q2_k, QuantFormat::q2_k},
    {DType::q3_k, QuantFormat::q3_k},     {DType::q4_k, QuantFormat::q4_k},
    {DType::q5_k, QuantFormat::q5_k},     {DType::q6_k, QuantFormat::q6_k},
    {DType::iq4_nl, QuantFormat::iq4_nl}, {DType::iq4_xs, QuantFormat::iq4_xs},
    {DType::mxfp4, QuantFormat::mxfp4},   {DType::nvfp4, QuantFormat::nvfp4}};
constexpr DType kFloats[] = {DType::f32, DType::f16, DType::bf16};

// Activations after rounding to int8 per group, written independently of the kernel.
std::vector<float> rounded_to_int8(const std::vector<float>& x, size_t group) {
    std::vector<float> result(x.size());
    for (size_t i = 0; i < x.size(); i += group) {
        float largest = 0.0f;
        for (size_t j = i; j < i + group; ++j) largest = std::max(largest, std::fabs(x[j]));
        float scale = largest / 127.0f;
        if (group == 32) {  // 11 significant bits
            int exponent = 0;
            const float mantissa = std::frexp(scale, &exponent);
            scale = std::ldexp(std::nearbyint(mantissa * 2048.0f), exponent - 11);
        }
        for (size_t j = i; j < i + group; ++j)
            result[j] = largest == 0.0f ? 0.0f : std::nearbyint(x[j] * (127.0f / largest)) * scale;
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

void check_matmul(DType dtype, int64_t n_in, int64_t n_out, int64_t n_tokens,
                  double tolerance = kTolerance) {
    CAPTURE(dtype_info(dtype).name);
    CAPTURE(n_in);
    CAPTURE(n_out);
    CAPTURE(n_tokens);
    const TestTensor weight = random_tensor(dtype, {n_in, n_out, 1, 1}, 1);
    const std::vector<float> x = random_values(n_in * n_tokens, 2);
    const auto quantized = kQuantized.find(dtype);
    Expected expected;
    if (quantized == kQuantized.end()) {
        expected = product(weight.decoded(), x, n_in, n_out);
    } else {
        const QuantTraits traits = quant_traits(quantized->second);
        expected = product(weight.decoded(), rounded_to_int8(x, static_cast<size_t>(traits.group)),
                           n_in, n_out);
    }
    std::vector<float> with_fma;
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const auto y = same_for_all_threads(
            tier, [&](Backend& backend) { return run_matmul(backend, weight, x, n_tokens); });
        check_close(y, expected.value, expected.magnitude, tolerance);
        if (tier == CpuTier::avx2) with_fma = y;
        if (tier > CpuTier::avx2 && quantized != kQuantized.end()) CHECK(y == with_fma);
    }
}

int64_t smallest_row(DType dtype) {
    return std::max<int64_t>(dtype_info(dtype).block_size, 32);
}

std::vector<float> run_split(Backend& backend, const TestTensor& weight,
                             const std::vector<float>& x, const std::vector<int64_t>& split) {
    std::vector<float> result;
    auto token = x.begin();
    for (const int64_t n : split) {
        const std::vector<float> chunk(token, token + n * weight.view.dims[0]);
        const std::vector<float> part = run_matmul(backend, weight, chunk, n);
        result.insert(result.end(), part.begin(), part.end());
        token += n * weight.view.dims[0];
    }
    return result;
}

// Cuts of 65 tokens into small batches only, large ones only, and both.
const std::vector<std::vector<int64_t>> kBatchSplits = {{16, 16, 16, 16, 1},
                                                        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10},
                                                        {15, 16, 13, 12, 9},
                                                        {17, 48},
                                                        {18, 19, 28}};

void check_splits(DType dtype) {
    const TestTensor weight = random_tensor(dtype, {768, 77, 1, 1}, 3);
    const std::vector<float> x = random_values(768 * 65, 4);
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        CAPTURE(dtype_info(dtype).name);
        const auto backend = make_cpu_backend(2, tier);
        const std::vector<float> whole = run_split(*backend, weight, x, {65});
        for (const auto& splits : {kSplits, kBatchSplits})
            for (const std::vector<int64_t>& split : splits)
                CHECK(run_split(*backend, weight, x, split) == whole);
    }
}

}  // namespace

TEST_CASE("matmul: every format, odd numbers of rows and tokens") {
    for (const auto& [dtype, format] : kQuantized)
        for (const auto& [rows, n_out, n_tokens] : {std::tuple{1, 1, 1},
                                                    {3, 7, 3},
                                                    {5, 33, 5},
                                                    {1, 65, 9},
                                                    {3, 31, 16},
                                                    {1, 63, 17},
                                                    {3, 7, 33},
                                                    {1, 129, 31},
                                                    {3, 3, 65}})
            check_matmul(dtype, rows * smallest_row(dtype), n_out, n_tokens);
    for (const DType dtype : kFloats)
        for (const auto& [n_in, n_out, n_tokens] :
             {std::tuple{32, 1, 1}, {64, 7, 3}, {96, 33, 5}, {512, 65, 1}, {32, 3, 65}})
            check_matmul(dtype, n_in, n_out, n_tokens);
}

TEST_CASE("matmul: rows that are not multiples of 16 in float formats") {
    for (const DType dtype : kFloats)
        for (const int64_t n_in : {1, 7, 15, 17, 24, 100, 511, 533}) {
            check_matmul(dtype, n_in, 5, 6);
            check_matmul(dtype, n_in, 53, 19);
        }
}

TEST_CASE("matmul: widths of the family, several slices and one that is short") {
    for (const int64_t n_in : {4480, 2688, 1856}) {
        check_matmul(DType::q5_0, n_in, 17, 2, kLongTolerance);
        check_matmul(DType::q8_0, n_in, 17, 18, kLongTolerance);
        check_matmul(DType::nvfp4, n_in, 17, 18, kLongTolerance);
    }
    check_matmul(DType::q4_k, 21504, 17, 2, kLongTolerance);
    check_matmul(DType::q4_k, 4352, 17, 18, kLongTolerance);
    check_matmul(DType::q6_k, 4352, 17, 18, kLongTolerance);
}

TEST_CASE("matmul: more tokens than one pass over the weights takes") {
    check_matmul(DType::q4_0, 32, 3, 520);
    for (const DType dtype : kFloats) check_matmul(dtype, 530, 3, 261);
}

TEST_CASE("matmul: the same bits for any number of threads and any split of the tokens") {
    for (const DType dtype : kFloats) check_splits(dtype);
    for (const auto& [dtype, format] : kQuantized) check_splits(dtype);
}

TEST_CASE("matmul: rows have the same bits alone and among those that are read with them") {
    constexpr int64_t kIn = 512, kRows = 77;
    const std::vector<float> x = random_values(kIn * 5, 4);
    ThreadPool pool(1);
    const auto check = [&](const TierOps& ops, DType dtype, bool fetches_ahead) {
        CAPTURE(dtype_info(dtype).name);
        const TestTensor weight = random_tensor(dtype, {kIn, kRows, 1, 1}, 3);
        const DotPlan plan = plan_dot(ops, dtype);
        DotInput input;
        input.prepare(ops, pool, plan, x.data(), kIn, 5);
        const DotBlock& block = input.blocks()[0];
        const auto dots = [&](int64_t first, int64_t n_rows) {
            std::vector<float> tile(static_cast<size_t>(5 * kRows));
            const auto* rows = reinterpret_cast<const unsigned char*>(weight.view.row(first));
            if (plan.quantized)
                ops.dot_strips[plan.format_index()]({.rows = rows,
                                                     .row_bytes = weight.view.row_bytes(),
                                                     .n_rows = n_rows,
                                                     .n = kIn,
                                                     .fetches_ahead = fetches_ahead,
                                                     .x = &block.batch,
                                                     .tile = tile.data(),
                                                     .tile_stride = kRows});
            else
                plan.dot({.rows = rows,
                          .row_bytes = weight.view.row_bytes(),
                          .n_rows = n_rows,
                          .n = kIn,
                          .x = block.rows,
                          .n_tokens = 5,
                          .tile = tile.data(),
                          .tile_stride = kRows});
            return tile;
        };
        const std::vector<float> whole = dots(0, kRows);
        for (int64_t r = 0; r < kRows; ++r) {
            const std::vector<float> one = dots(r, 1);
            for (size_t t = 0; t < 5; ++t)
                CHECK(one[t * kRows] == whole[t * kRows + static_cast<size_t>(r)]);
        }
    };
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        for (const DType dtype : kFloats) check(tier_ops(tier), dtype, false);
        for (const auto& [dtype, format] : kQuantized)
            for (const bool fetches_ahead : {false, true})
                check(tier_ops(tier), dtype, fetches_ahead);
    }
}

TEST_CASE("matmul: integer dot products are exact and equal in all tiers, extremes included") {
    // Scales of 1 and activations whose largest is 127: the result is the integer sum, below 2^24.
    constexpr int64_t kIn = 480, kTokens = 20;
    std::mt19937 engine(5);
    for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q5_0, DType::iq4_nl}) {
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
            const std::vector<float> first(x.begin(), x.begin() + 2 * kIn);
            check_close(run_matmul(*backend, weight, first, 2),
                        {expected.begin(), expected.begin() + 6}, 0.0);
        }
    }
}

TEST_CASE("matmul: sums of sub-blocks on both sides of 16 bits") {
    // Activations with codes of 127 and -127 and the largest weights; then smaller activations.
    constexpr int64_t kIn = 768, kOut = 33, kTokens = 19;
    for (const DType dtype :
         {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs}) {
        TestTensor weight = random_tensor(dtype, {kIn, kOut, 1, 1}, 13);
        const auto block_bytes = static_cast<size_t>(dtype_info(dtype).block_bytes);
        for (size_t row = 0; row < kOut; row += 2)
            for (size_t i = 32; i < 80; ++i)  // codes, in all of them
                weight.bytes[row * 3 * block_bytes + i] = std::byte(row % 4 == 0 ? 0xff : 0);
        std::vector<float> x(static_cast<size_t>(kIn * kTokens));
        for (size_t i = 0; i < x.size(); ++i) {
            const size_t t = i / kIn, slice = i % kIn / 256;
            const float rest = (t + slice) % 5 == 0 ? 8.0f : 127.0f;
            x[i] = (i % 256 == 0 ? 127.0f : rest) * (t % 3 == 1 ? -1.0f : 1.0f);
        }
        const size_t group = static_cast<size_t>(quant_traits(kQuantized.at(dtype)).group);
        const Expected expected = product(weight.decoded(), rounded_to_int8(x, group), kIn, kOut);
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            CAPTURE(dtype_info(dtype).name);
            const auto backend = make_cpu_backend(1, tier);
            const std::vector<float> whole = run_split(*backend, weight, x, {kTokens});
            check_close(whole, expected.value, expected.magnitude, kTolerance);
            for (const std::vector<int64_t>& split :
                 {std::vector<int64_t>{1, 1, 1, 1, 1, 2, 4, 8}, {18, 1}, {8, 11}, {2, 17}})
                CHECK(run_split(*backend, weight, x, split) == whole);
        }
    }
}

TEST_CASE("matmul: every half is read as a scale, subnormal ones included") {
    constexpr int64_t kIn = 32, kHalves = 1 << 16;
    std::vector<std::byte> bytes(34 * kHalves, std::byte{1});  // codes of 1
    for (size_t i = 0; i < kHalves; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        std::memcpy(bytes.data() + 34 * i, &bits, sizeof bits);
    }
    const TestTensor weight = make_tensor(DType::q8_0, {kIn, kHalves, 1, 1}, std::move(bytes));
    const std::vector<float> decoded = weight.decoded();
    std::vector<float> x(kIn);
    x[0] = 127.0f;  // an activation scale of 1
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const std::vector<float> y = run_matmul(*make_cpu_backend(1, tier), weight, x, 1);
        for (size_t i = 0; i < kHalves; ++i) {
            const float expected = decoded[i * kIn] * 127.0f;
            if (std::isnan(expected) ? !std::isnan(y[i]) : y[i] != expected) FAIL_CHECK(i);
        }
    }
}

TEST_CASE("matmul: large MXFP4 scales give the same with few and with many tokens") {
    constexpr int64_t kIn = 96, kTokens = 17;
    TestTensor weight = random_tensor(DType::mxfp4, {kIn, 3, 1, 1}, 14);
    for (size_t i = 0; i < weight.bytes.size(); i += 17)
        weight.bytes[i] = static_cast<std::byte>(i % 2 == 0 ? 238 : 231);
    const std::vector<float> x = random_values(kIn * kTokens, 15, 1e-6f);
    const Expected expected = product(weight.decoded(), rounded_to_int8(x, 32), kIn, 3);
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const auto backend = make_cpu_backend(1, tier);
        const std::vector<float> whole = run_split(*backend, weight, x, {kTokens});
        check_close(whole, expected.value, expected.magnitude, kTolerance);
        CHECK(run_split(*backend, weight, x, {8, 9}) == whole);
    }
}

TEST_CASE("matmul: int8 codes of activations are the same in all tiers") {
    std::vector<float> x = random_values(256 * 20, 6);
    std::fill_n(x.begin() + 256, 256, 0.0f);
    std::fill_n(x.begin() + 512, 256, 1e-42f);
    for (const int64_t group : {32, 64, 256}) {
        struct Result {
            std::vector<int8_t> codes = std::vector<int8_t>(256 * 20);
            std::vector<float> scale = std::vector<float>(256 * 20);
            std::vector<int32_t> sums = std::vector<int32_t>(16 * 20);
            std::vector<int32_t> magnitudes = std::vector<int32_t>(16 * 20);
        } expected;
        const auto quantize = [&](const TierOps& ops, Result& result) {
            ops.quantize({.x = x.data(),
                          .n = std::ssize(x),
                          .group = group,
                          .codes = result.codes.data(),
                          .scale = result.scale.data(),
                          .sums = result.sums.data(),
                          .magnitudes = result.magnitudes.data()});
        };
        quantize(kScalarOps, expected);
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            Result actual;
            quantize(tier_ops(tier), actual);
            CHECK(actual.codes == expected.codes);
            CHECK(actual.scale == expected.scale);
            CHECK(actual.sums == expected.sums);
            CHECK(actual.magnitudes == expected.magnitudes);
        }
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

TEST_CASE("matmul: a NaN or an infinity among int8 activations comes through") {
    for (const DType dtype : {DType::q8_0, DType::q4_k})
        for (const CpuTier tier : tiers_here())
            for (const int64_t n_tokens : {2, 17}) {
                const TestTensor weight = random_tensor(dtype, {512, 3, 1, 1}, 1);
                std::vector<float> x = random_values(512 * n_tokens, 2);
                x[5] = std::nanf("");
                x[512 + 300] = HUGE_VALF;
                const auto y = run_matmul(*make_cpu_backend(1, tier), weight, x, n_tokens);
                for (size_t i = 0; i < y.size(); ++i) CHECK(std::isfinite(y[i]) == (i >= 6));
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
