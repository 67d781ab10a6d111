#include "kernels/cpu/dot_input.h"

#include "core/error.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace nemo {

namespace {

// Of fp32 activations that are in use together: about half of a second-level cache.
constexpr int64_t kCacheBytes = 512 * 1024;
// Tokens that a register block of the fastest tier takes.
constexpr int64_t kRegisterTokens = 6;

QuantFormat quant_format(DType dtype) {
    switch (dtype) {
        case DType::q4_0:
            return QuantFormat::q4_0;
        case DType::q4_1:
            return QuantFormat::q4_1;
        case DType::q5_0:
            return QuantFormat::q5_0;
        case DType::q5_1:
            return QuantFormat::q5_1;
        case DType::q8_0:
            return QuantFormat::q8_0;
        case DType::q2_k:
            return QuantFormat::q2_k;
        case DType::q3_k:
            return QuantFormat::q3_k;
        case DType::q4_k:
            return QuantFormat::q4_k;
        case DType::q5_k:
            return QuantFormat::q5_k;
        case DType::q6_k:
            return QuantFormat::q6_k;
        case DType::iq4_nl:
            return QuantFormat::iq4_nl;
        case DType::iq4_xs:
            return QuantFormat::iq4_xs;
        case DType::mxfp4:
            return QuantFormat::mxfp4;
        case DType::nvfp4:
            return QuantFormat::nvfp4;
        default:
            return QuantFormat::count;
    }
}

}  // namespace

DotPlan plan_dot(const TierOps& ops, DType dtype) {
    switch (dtype) {
        case DType::f32:
            return {.dot = ops.dot_f32, .widen = ops.widen_f32};
        case DType::f16:
            return {.dot = ops.dot_f16, .widen = ops.widen_f16};
        case DType::bf16:
            return {.dot = ops.dot_bf16, .widen = ops.widen_bf16};
        default:
            break;
    }
    const QuantFormat format = quant_format(dtype);
    NEMO_ASSERT(format != QuantFormat::count);
    return {.quantized = true, .format = format};
}

void DotInput::cut(int64_t n_tokens, int64_t most, std::span<const int64_t> group_ends) {
    if (group_ends.empty()) group_ends = std::span(&n_tokens, 1);
    blocks_.clear();
    group_blocks_.assign(1, 0);
    int64_t token = 0;
    for (const int64_t end : group_ends) {
        for (; token < end; token += most)
            blocks_.push_back({.first = token, .n_tokens = std::min(most, end - token)});
        token = end;
        group_blocks_.push_back(blocks_.size());
    }
}

void DotInput::prepare(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const float* x,
                       int64_t n, int64_t n_tokens, std::span<const int64_t> order,
                       std::span<const int64_t> group_ends) {
    rows_ = row_memory_.get(n_tokens);
    for (int64_t t = 0; t < n_tokens; ++t)
        rows_[t] = x + (order.empty() ? t : order[static_cast<size_t>(t)]) * n;
    if (plan.quantized) {
        cut(n_tokens, kMostBatchTokens, group_ends);
        quantize(ops, pool, quant_traits(plan.format), n);
        return;
    }
    cut(n_tokens,
        std::clamp<int64_t>(kCacheBytes / (n * 4) / kRegisterTokens * kRegisterTokens,
                            kRegisterTokens, kBlockTokens),
        group_ends);
    for (DotBlock& block : blocks_) block.rows = rows_ + block.first;
}

void DotInput::quantize(const TierOps& ops, ThreadPool& pool, const QuantTraits& traits,
                        int64_t n) {
    const int64_t n_groups = n / traits.group, n_subs = n / traits.sub_columns;
    int64_t n_places = 0;
    for (const DotBlock& block : blocks_)
        n_places += static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(block.n_tokens)));
    int8_t* codes = codes_.get(n_places * n);
    float* scales = scales_.get(n_places * n_groups);
    float* sums = sums_.get(n_places * n_subs);
    int32_t* starts = starts_.get(n_places * n_subs);
    int32_t* pairs = pairs_.get(n_places * n_subs / 2);
    int64_t place = 0;
    for (DotBlock& block : blocks_) {
        const auto width =
            static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(block.n_tokens)));
        block.batch = {.width = width,
                       .n_tokens = block.n_tokens,
                       .codes = codes + place * n,
                       .scale = scales + place * n_groups,
                       .start = starts + place * n_subs,
                       .sum = sums + place * n_subs,
                       .pairs = pairs + place * n_subs / 2,
                       .narrow = true};
        place += width;
    }
    threads_.resize(static_cast<size_t>(pool.n_threads()));
    pool.parallel_for(std::ssize(blocks_), 1, [&](int64_t index, int64_t, int thread) {
        DotBlock& block = blocks_[static_cast<size_t>(index)];
        for (int64_t i = 0; i < block.batch.width; ++i)
            quantize_token(ops, traits, i < block.n_tokens ? rows_[block.first + i] : nullptr, n,
                           block.batch, i, threads_[static_cast<size_t>(thread)]);
    });
}

// x: null for a place without a token.
void DotInput::quantize_token(const TierOps& ops, const QuantTraits& traits, const float* x,
                              int64_t n, ActivationBatch& batch, int64_t place,
                              ThreadScratch& scratch) {
    const int64_t width = batch.width, n_groups = n / traits.group;
    const int64_t n_subs = n / traits.sub_columns, per_sub = traits.sub_columns / 16;
    int8_t* codes = scratch.codes.get(n);
    float* scales = scratch.scales.get(n_groups);
    int32_t* code_sums = scratch.sums.get(n / 16);
    int32_t* magnitudes = scratch.magnitudes.get(n / 16);
    if (x != nullptr) {
        ops.quantize({.x = x,
                      .n = n,
                      .group = traits.group,
                      .codes = codes,
                      .scale = scales,
                      .sums = code_sums,
                      .magnitudes = magnitudes});
    } else {
        std::fill_n(codes, n, int8_t{0});
        std::fill_n(scales, n_groups, 0.0f);
        std::fill_n(code_sums, n / 16, 0);
        std::fill_n(magnitudes, n / 16, 0);
    }
    int8_t* target = batch.codes + 4 * place;
    for (int64_t i = 0; i < n; i += 4) std::memcpy(target + i * width, codes + i, 4);
    for (int64_t g = 0; g < n_groups; ++g) batch.scale[g * width + place] = scales[g];
    const auto sum_of = [&](const int32_t* values, int64_t sub) {
        return std::accumulate(values + sub * per_sub, values + (sub + 1) * per_sub, 0);
    };
    for (int64_t j = 0; j < n_subs; ++j) {
        const int32_t total = sum_of(code_sums, j);
        batch.start[j * width + place] = -traits.offset * total;
        batch.sum[j * width + place] = static_cast<float>(total);
        if (traits.has_integer_scales())
            batch.narrow = batch.narrow && traits.is_narrow(total, sum_of(magnitudes, j));
    }
    if (!traits.has_integer_scales()) return;
    for (int64_t p = 0; p < n_subs / 2; ++p) {
        const int64_t sub = first_of_pair(p);
        batch.pairs[p * width + place] =
            word_pair(sum_of(code_sums, sub), sum_of(code_sums, sub + kPairDistance));
    }
}

}  // namespace nemo
