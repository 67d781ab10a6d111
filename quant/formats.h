// The decoders and encoders behind codec.h, one pair per format. Internal to quant/. `n` is a whole
// number of blocks; sources and targets of encoded data need no alignment.
#pragma once

#include "quant/half.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nemo {

// formats_simple.cpp
void decode_f32(const std::byte* source, float* target, int64_t n);
void decode_f16(const std::byte* source, float* target, int64_t n);
void encode_f32(const float* source, std::byte* target, int64_t n);
void encode_f16(const float* source, std::byte* target, int64_t n);
void encode_bf16(const float* source, std::byte* target, int64_t n);

// formats_block32.cpp
void decode_q4_0(const std::byte* source, float* target, int64_t n);
void decode_q4_1(const std::byte* source, float* target, int64_t n);
void decode_q5_0(const std::byte* source, float* target, int64_t n);
void decode_q5_1(const std::byte* source, float* target, int64_t n);
void decode_q8_0(const std::byte* source, float* target, int64_t n);
void encode_q4_0(const float* source, std::byte* target, int64_t n);

// formats_nonlinear.cpp
void decode_iq4_nl(const std::byte* source, float* target, int64_t n);
void decode_iq4_xs(const std::byte* source, float* target, int64_t n);

// formats_float4.cpp
void decode_mxfp4(const std::byte* source, float* target, int64_t n);
void decode_nvfp4(const std::byte* source, float* target, int64_t n);

// formats_k.cpp
void decode_q2_k(const std::byte* source, float* target, int64_t n);
void decode_q3_k(const std::byte* source, float* target, int64_t n);
void decode_q4_k(const std::byte* source, float* target, int64_t n);
void decode_q5_k(const std::byte* source, float* target, int64_t n);
void decode_q6_k(const std::byte* source, float* target, int64_t n);

// An unaligned little-endian value.
template <class T>
T load_as(const std::byte* source) {
    T value;
    std::memcpy(&value, source, sizeof(T));
    return value;
}

inline float load_f16(const std::byte* source) {
    return f16_to_f32(load_as<uint16_t>(source));
}

inline uint32_t byte_at(const std::byte* source, int index) {
    return std::to_integer<uint32_t>(source[index]);
}

}  // namespace nemo
