// Scalar conversions between fp32 and the 16- and 8-bit float formats. Encoders round to nearest,
// ties to even. Inline and without branches, so that loops over rows become vector code.
#pragma once

#include <bit>
#include <cstdint>

namespace nemo {

// The exponent is re-biased by a multiplication, which is exact and also normalizes subnormals.
inline float f16_to_f32(uint16_t bits) {
    const uint32_t magnitude = bits & 0x7fffu;
    const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    const uint32_t not_finite = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
    const uint32_t sign = (bits & 0x8000u) << 16;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | not_finite | sign);
}

// Values from 65520 on become infinity; a NaN stays one and becomes quiet.
inline uint16_t f32_to_f16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal =
        (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (uint32_t{112} << 23)) >> 13;
    // An fp32 near 0.5 has the spacing of fp16 subnormals, so this addition rounds to them.
    const uint32_t subnormal =
        std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half;
    half = magnitude > 0x7f800000u ? nan : half;
    return static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u));
}

inline float bf16_to_f32(uint16_t bits) {
    return std::bit_cast<float>(uint32_t{bits} << 16);
}

inline uint16_t f32_to_bf16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

// OCP FP8 E4M3 (finite: 0x7F and 0xFF are NaN, no infinity, max 448).
float e4m3_to_f32(uint8_t bits);

}  // namespace nemo
