// Encoding and decoding of rows in every number format nemo knows: the scalar truth that kernels
// are tested against. Layouts: GGUF specification; one file per family of formats.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace nemo {

// `n` elements, a whole number of blocks. NVFP4's separate per-tensor scale is not applied here.
void decode_row(DType dtype, const std::byte* source, float* target, int64_t n);

// The codes of least weighted squared error that a search finds, for finite `source`. `importance`
// has `n` weights >= 0 (only their ratios matter; all 0 counts as all equal); null: all equal, and
// then Q8_0 and Q4_0 are encoded without a search, bit for bit as llama.cpp's reference does.
// Values beyond a format's range become its largest; NVFP4 is encoded for a per-tensor scale of 1.
void encode_row(DType dtype, const float* source, std::byte* target, int64_t n,
                const float* importance = nullptr);

// NaN if one of the values is NaN; 0 for none.
float largest_magnitude(const float* values, int64_t n);

}  // namespace nemo
