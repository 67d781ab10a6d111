// Q2_K to Q6_K: super-blocks of 256 codes in sub-blocks of 16 or 32, whose scales (and minimums)
// are small integers under one fp16 scale each.
#include "quant/formats.h"

namespace nemo {

namespace {

constexpr int kSuperBlock = 256;

struct ScaleAndMin {
    float scale;
    float min;
};

// Sub-block j of 8 in Q4_K and Q5_K: 12 bytes hold eight 6-bit scales and eight 6-bit minimums.
ScaleAndMin six_bit_pair(const std::byte* packed, int j) {
    uint32_t scale, min;
    if (j < 4) {
        scale = byte_at(packed, j) & 63u;
        min = byte_at(packed, j + 4) & 63u;
    } else {
        scale = (byte_at(packed, j + 4) & 15u) | ((byte_at(packed, j - 4) >> 6) << 4);
        min = (byte_at(packed, j + 4) >> 4) | ((byte_at(packed, j) >> 6) << 4);
    }
    return {static_cast<float>(scale), static_cast<float>(min)};
}

// Sub-block k of 16 in Q3_K: low nibbles in 8 bytes, high two bits in 4 more.
int q3_scale(const std::byte* packed, int k) {
    const uint32_t low = k < 8 ? byte_at(packed, k) & 15u : byte_at(packed, k - 8) >> 4;
    const uint32_t high = (byte_at(packed, 8 + k % 4) >> (2 * (k / 4))) & 3u;
    return static_cast<int>(low | (high << 4)) - 32;
}

// Q4_K and Q5_K differ in the fifth bits only. `high_bits` may be null.
void decode_six_bit_scaled(const std::byte* source, const std::byte* high_bits,
                           const std::byte* codes, float* target) {
    const float d = load_f16(source);
    const float d_min = load_f16(source + 2);
    for (int sub = 0; sub < 8; ++sub) {
        const ScaleAndMin pair = six_bit_pair(source + 4, sub);
        const float scale = d * pair.scale;
        const float min = d_min * pair.min;
        const int shift = 4 * (sub % 2);
        const std::byte* half = codes + 32 * (sub / 2);
        for (int l = 0; l < 32; ++l) {
            uint32_t q = (byte_at(half, l) >> shift) & 15u;
            if (high_bits != nullptr) q |= ((byte_at(high_bits, l) >> sub) & 1u) << 4;
            target[32 * sub + l] = scale * static_cast<float>(static_cast<int>(q)) - min;
        }
    }
}

}  // namespace

// scales[16], codes[64], fp16 d, fp16 d_min.
void decode_q2_k(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 84;
    for (int64_t i = 0; i < n; i += kSuperBlock, source += kBytes) {
        const float d = load_f16(source + 80);
        const float d_min = load_f16(source + 82);
        for (int sub = 0; sub < 16; ++sub) {
            const uint32_t packed = byte_at(source, sub);
            const float scale = d * static_cast<float>(static_cast<int>(packed & 15u));
            const float min = d_min * static_cast<float>(static_cast<int>(packed >> 4));
            const std::byte* codes = source + 16 + 32 * (sub / 8) + 16 * (sub % 2);
            const int shift = 2 * (sub % 8 / 2);
            for (int l = 0; l < 16; ++l) {
                const int q = static_cast<int>((byte_at(codes, l) >> shift) & 3u);
                target[i + 16 * sub + l] = scale * static_cast<float>(q) - min;
            }
        }
    }
}

// high_mask[32], codes[64], scales[12], fp16 d.
void decode_q3_k(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 110;
    for (int64_t i = 0; i < n; i += kSuperBlock, source += kBytes) {
        const float d = load_f16(source + 108);
        for (int sub = 0; sub < 16; ++sub) {
            const float scale = d * static_cast<float>(q3_scale(source + 96, sub));
            const std::byte* codes = source + 32 + 32 * (sub / 8) + 16 * (sub % 2);
            const std::byte* high = source + 16 * (sub % 2);
            const int shift = 2 * (sub % 8 / 2);
            for (int l = 0; l < 16; ++l) {
                const int q = static_cast<int>((byte_at(codes, l) >> shift) & 3u);
                const bool set = ((byte_at(high, l) >> (sub / 2)) & 1u) != 0;
                target[i + 16 * sub + l] = scale * static_cast<float>(set ? q : q - 4);
            }
        }
    }
}

// fp16 d, fp16 d_min, scales[12], codes[128].
void decode_q4_k(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 144;
    for (int64_t i = 0; i < n; i += kSuperBlock, source += kBytes)
        decode_six_bit_scaled(source, nullptr, source + 16, target + i);
}

// fp16 d, fp16 d_min, scales[12], high_bits[32], codes[128].
void decode_q5_k(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 176;
    for (int64_t i = 0; i < n; i += kSuperBlock, source += kBytes)
        decode_six_bit_scaled(source, source + 16, source + 48, target + i);
}

// low[128], high[64], i8 scales[16], fp16 d.
void decode_q6_k(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 210;
    for (int64_t i = 0; i < n; i += kSuperBlock, source += kBytes) {
        const float d = load_f16(source + 208);
        for (int sub = 0; sub < 16; ++sub) {
            const int half = sub / 8, quarter = sub % 8 / 2, offset = 16 * (sub % 2);
            const std::byte* low = source + 64 * half + 32 * (quarter % 2) + offset;
            const std::byte* high = source + 128 + 32 * half + offset;
            const int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
            const float scale = d * static_cast<float>(load_as<int8_t>(source + 192 + sub));
            for (int l = 0; l < 16; ++l) {
                const uint32_t q = ((byte_at(low, l) >> low_shift) & 15u) |
                                   (((byte_at(high, l) >> high_shift) & 3u) << 4);
                target[i + 16 * sub + l] = scale * static_cast<float>(static_cast<int>(q) - 32);
            }
        }
    }
}

}  // namespace nemo
