// IQ4_NL and IQ4_XS: four-bit codes that index a fixed table of 16 unevenly spaced values.
#include "quant/formats.h"

namespace nemo {

namespace {

constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

// 32 elements: low nibbles of the 16 bytes first, then the high ones.
void decode_indices(const std::byte* codes, float d, float* target) {
    for (int j = 0; j < 16; ++j) {
        const uint32_t pair = byte_at(codes, j);
        target[j] = d * kValues[pair & 15u];
        target[j + 16] = d * kValues[pair >> 4];
    }
}

}  // namespace

void decode_iq4_nl(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 18;
    for (int64_t i = 0; i < n; i += 32, source += kBytes)
        decode_indices(source + 2, load_f16(source), target + i);
}

// 256 elements: fp16 d, u16 with the high two bits of eight scales, 4 bytes with their low nibbles,
// 128 bytes of codes.
void decode_iq4_xs(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 136;
    for (int64_t i = 0; i < n; i += 256, source += kBytes) {
        const float d = load_f16(source);
        const uint32_t high = load_as<uint16_t>(source + 2);
        for (int block = 0; block < 8; ++block) {
            const uint32_t low = byte_at(source + 4, block / 2) >> (4 * (block % 2));
            const uint32_t scale = (low & 15u) | (((high >> (2 * block)) & 3u) << 4);
            decode_indices(source + 8 + 16 * block,
                           d * static_cast<float>(static_cast<int>(scale) - 32),
                           target + i + 32 * block);
        }
    }
}

}  // namespace nemo
