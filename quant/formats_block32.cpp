// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 codes with an fp16 scale d and, in the _1 formats, an
// fp16 minimum m. Four-bit codes lie in 16 bytes: element j in the low nibble of byte j, element
// j + 16 in its high nibble; fifth bits are bit j of a u32.
// Loops over rows become vector code, which the default level leaves to loops of known length.
#pragma GCC optimize("O3")

#include "quant/formats.h"

#include <cmath>

namespace nemo {

namespace {

constexpr int kBlock = 32;
constexpr int64_t kQ4_0Bytes = 18;
constexpr int64_t kQ4_1Bytes = 20;
constexpr int64_t kQ5_0Bytes = 22;
constexpr int64_t kQ5_1Bytes = 24;
constexpr int64_t kQ8_0Bytes = 34;

// target = d * (code - offset) + m; the products are rounded as in the reference decoder.
void decode_nibbles(const std::byte* codes, uint32_t fifth_bits, int offset, float d, float m,
                    float* target) {
    for (int j = 0; j < 16; ++j) {
        const uint32_t pair = byte_at(codes, j);
        const uint32_t low = (pair & 15u) | (((fifth_bits >> j) & 1u) << 4);
        const uint32_t high = (pair >> 4) | (((fifth_bits >> (j + 16)) & 1u) << 4);
        target[j] = static_cast<float>(static_cast<int>(low) - offset) * d + m;
        target[j + 16] = static_cast<float>(static_cast<int>(high) - offset) * d + m;
    }
}

// 1/d; 0 for a block of zeros or of values so small that 1/d overflows (their fp16 scale is 0).
float inverse(float d) {
    return std::fabs(d) > 0x1p-127f ? 1.0f / d : 0.0f;
}

// A scale beyond fp16 is cut off, so that what was finite decodes as finite.
void store_scale(float d, std::byte* target) {
    constexpr float kLargest = 65504.0f;
    const uint16_t bits = f32_to_f16(d > kLargest ? kLargest : (d < -kLargest ? -kLargest : d));
    std::memcpy(target, &bits, sizeof bits);
}

}  // namespace

void decode_q4_0(const std::byte* source, float* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, source += kQ4_0Bytes)
        decode_nibbles(source + 2, 0, 8, load_f16(source), 0.0f, target + i);
}

void decode_q4_1(const std::byte* source, float* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, source += kQ4_1Bytes)
        decode_nibbles(source + 4, 0, 0, load_f16(source), load_f16(source + 2), target + i);
}

void decode_q5_0(const std::byte* source, float* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, source += kQ5_0Bytes)
        decode_nibbles(source + 6, load_as<uint32_t>(source + 2), 16, load_f16(source), 0.0f,
                       target + i);
}

void decode_q5_1(const std::byte* source, float* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, source += kQ5_1Bytes)
        decode_nibbles(source + 8, load_as<uint32_t>(source + 4), 0, load_f16(source),
                       load_f16(source + 2), target + i);
}

void decode_q8_0(const std::byte* source, float* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, source += kQ8_0Bytes) {
        const float d = load_f16(source);
        for (int j = 0; j < kBlock; ++j)
            target[i + j] = static_cast<float>(load_as<int8_t>(source + 2 + j)) * d;
    }
}

// Codes come from the unrounded scale, as in the reference encoder.
void encode_q4_0(const float* source, std::byte* target, int64_t n) {
    for (int64_t i = 0; i < n; i += kBlock, target += kQ4_0Bytes) {
        const float* x = source + i;
        // The value of largest magnitude, the first of several, with its sign: it becomes code 0.
        float extreme = 0.0f;
        for (int j = 0; j < kBlock; ++j)
            if (std::fabs(x[j]) > std::fabs(extreme)) extreme = x[j];
        const float d = extreme / -8.0f;
        const float scale = inverse(d);
        store_scale(d, target);
        const auto code = [&](int j) {
            const int q = static_cast<int>(x[j] * scale + 8.5f);
            return q < 15 ? q : 15;
        };
        for (int j = 0; j < 16; ++j)
            target[2 + j] = static_cast<std::byte>(code(j) | (code(j + 16) << 4));
    }
}

}  // namespace nemo
