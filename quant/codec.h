// Encoding and decoding of rows in every number format nemo knows: the scalar truth that kernels
// are tested against. Layouts: GGUF specification; one file per family of formats.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace nemo {

// `n` elements, a whole number of blocks. NVFP4's separate per-tensor scale is not applied here.
void decode_row(DType dtype, const std::byte* source, float* target, int64_t n);

// F32, F16, BF16, Q8_0, Q4_0.
bool can_encode(DType dtype);
void encode_row(DType dtype, const float* source, std::byte* target, int64_t n);

}  // namespace nemo
