// F32, F16, BF16: one value per element.
// Loops over rows become vector code, which the default level leaves to loops of known length.
#pragma GCC optimize("O3")

#include "quant/formats.h"

namespace nemo {

namespace {

template <class Convert>
void widen(const std::byte* source, float* target, int64_t n, Convert convert) {
    for (int64_t i = 0; i < n; ++i) target[i] = convert(load_as<uint16_t>(source + 2 * i));
}

template <class Convert>
void shorten(const float* source, std::byte* target, int64_t n, Convert convert) {
    for (int64_t i = 0; i < n; ++i) {
        const uint16_t bits = convert(source[i]);
        std::memcpy(target + 2 * i, &bits, sizeof bits);
    }
}

}  // namespace

void decode_f32(const std::byte* source, float* target, int64_t n) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
}

void encode_f32(const float* source, std::byte* target, int64_t n) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
}

void decode_f16(const std::byte* source, float* target, int64_t n) {
    widen(source, target, n, [](uint16_t bits) { return f16_to_f32(bits); });
}

void encode_f16(const float* source, std::byte* target, int64_t n) {
    shorten(source, target, n, [](float value) { return f32_to_f16(value); });
}

void encode_bf16(const float* source, std::byte* target, int64_t n) {
    shorten(source, target, n, [](float value) { return f32_to_bf16(value); });
}

}  // namespace nemo
