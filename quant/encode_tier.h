// The encoders of all formats that need a search, and what all conversions do most, once per
// instruction set. Internal to quant/. All tiers give the same bits.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace nemo {

// `importance` has n weights >= 0, or is null: all equal.
using WeightedEncoder = void (*)(const float* source, std::byte* target, int64_t n,
                                 const float* importance);

struct RowTier {
    WeightedEncoder (*weighted_encoder)(DType);  // nullptr for F32, F16 and BF16
    void (*encode_plain_q8_0)(const float* source, std::byte* target, int64_t n);
    void (*decode_bf16)(const std::byte* source, float* target, int64_t n);
    float (*largest_magnitude)(const float* values, int64_t n);
};

const RowTier& baseline_tier();
const RowTier& avx2_tier();
const RowTier& avx512_tier();

}  // namespace nemo
