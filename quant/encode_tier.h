// The encoders of all formats that need a search, once per instruction set. Internal to quant/. All
// tiers give the same bytes.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace nemo {

// `importance` has n weights >= 0, or is null: all equal.
using WeightedEncoder = void (*)(const float* source, std::byte* target, int64_t n,
                                 const float* importance);

// nullptr for F32, F16 and BF16.
WeightedEncoder baseline_encoder(DType dtype);
WeightedEncoder avx2_encoder(DType dtype);
WeightedEncoder avx512_encoder(DType dtype);

}  // namespace nemo
