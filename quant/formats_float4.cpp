// MXFP4 and NVFP4: four-bit floats (E2M1) with a power-of-two scale per 32 or an FP8 scale per 16.
#include "quant/formats.h"

namespace nemo {

namespace {

// Twice the E2M1 value; the scales below are halved instead, so that the table stays whole numbers.
constexpr float kDoubledE2m1[16] = {0.0f,  1.0f,  2.0f,  3.0f,  4.0f,  6.0f,  8.0f,  12.0f,
                                    -0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f, -8.0f, -12.0f};

// `n_bytes` bytes hold 2 n_bytes elements: low nibbles first, then the high ones.
void decode_floats(const std::byte* codes, int n_bytes, float scale, float* target) {
    for (int j = 0; j < n_bytes; ++j) {
        const uint32_t pair = byte_at(codes, j);
        target[j] = scale * kDoubledE2m1[pair & 15u];
        target[j + n_bytes] = scale * kDoubledE2m1[pair >> 4];
    }
}

// 2^(exponent - 128). The two smallest are fp32 subnormals.
float half_e8m0(uint32_t exponent) {
    const uint32_t bits = exponent < 2 ? uint32_t{0x00200000} << exponent : (exponent - 1) << 23;
    return std::bit_cast<float>(bits);
}

// Unsigned E4M3. 0x7F, NaN in the OCP format, stands for 0.
float ue4m3(uint32_t bits) {
    return bits == 0x7fu ? 0.0f : e4m3_to_f32(bits & 0x7fu);
}

}  // namespace

void decode_mxfp4(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 17;
    for (int64_t i = 0; i < n; i += 32, source += kBytes)
        decode_floats(source + 1, 16, half_e8m0(byte_at(source, 0)), target + i);
}

// 64 elements: 4 scales, then 4 times 8 bytes.
void decode_nvfp4(const std::byte* source, float* target, int64_t n) {
    constexpr int64_t kBytes = 36;
    for (int64_t i = 0; i < n; i += 64, source += kBytes)
        for (int block = 0; block < 4; ++block)
            decode_floats(source + 4 + 8 * block, 8, 0.5f * ue4m3(byte_at(source, block)),
                          target + i + 16 * block);
}

}  // namespace nemo
