// Any x86-64: vectors of four floats (SSE2 is part of the architecture), no fused multiply-add, and
// plain loops for the integer sums. Exports kScalarOps only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

constexpr int kNativeLanes = 4;
typedef float NativeF __attribute__((vector_size(16)));
typedef uint32_t NativeU __attribute__((vector_size(16)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 1, kFloatTokens = 2;
constexpr int kScanVectors = 1;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return a * b + c;
}

NEMO_INLINE float sum_native(NativeF v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}

// Moves the bits and lets a multiplication correct the exponent, which is exact for subnormals too.
NEMO_INLINE NativeF load_f16_native(const void* p) {
    typedef uint16_t NativeU16 __attribute__((vector_size(8)));
    NativeU16 halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    const NativeU bits = __builtin_convertvector(halves, NativeU);
    const NativeU magnitude = bits & 0x7fffu;
    const NativeF value = reinterpret_cast<NativeF>(magnitude << 13) * 0x1p112f;
    const NativeU not_finite = magnitude >= 0x7c00u ? NativeU{} + 0x7f800000u : NativeU{};
    return reinterpret_cast<NativeF>(reinterpret_cast<NativeU>(value) | not_finite |
                                     ((bits & 0x8000u) << 16));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_sequence.inl"

NEMO_INLINE float load_f16(const unsigned char* p) {
    unsigned char padded[8] = {p[0], p[1]};
    return load_f16_native(padded)[0];
}

struct Q8_0Block {
    static constexpr int64_t kBytes = 34;
    static NEMO_INLINE_MEMBER int32_t dot(const unsigned char* codes, const int8_t* x) {
        int32_t sum = 0;
        for (int i = 0; i < 32; ++i) sum += static_cast<int8_t>(codes[i]) * x[i];
        return sum;
    }
};

struct Q4_0Block {
    static constexpr int64_t kBytes = 18;
    static NEMO_INLINE_MEMBER int32_t dot(const unsigned char* codes, const int8_t* x) {
        int32_t sum = 0;
        for (int i = 0; i < 16; ++i)
            sum += ((codes[i] & 15) - 8) * x[i] + ((codes[i] >> 4) - 8) * x[i + 16];
        return sum;
    }
};

template <class Block>
float dot_int8_row(const unsigned char* row, const ActivationPair* x, int64_t n_blocks) {
    float result = 0.0f;
    for (int64_t i = 0; i < n_blocks; ++i, row += Block::kBytes) {
        const ActivationPair& pair = x[i / 2];
        const int32_t products = Block::dot(row + 2, pair.codes + 32 * (i % 2));
        result += static_cast<float>(products) * (load_f16(row) * pair.scale[8 * (i % 2)]);
    }
    return result;
}

template <class Block>
void dot_int8(const DotJob& job) {
    for (int64_t r = 0; r < job.n_rows; ++r)
        for (int64_t t = 0; t < job.n_tokens; ++t)
            job.tile[t * job.tile_stride + r] =
                dot_int8_row<Block>(job.rows + r * job.row_bytes,
                                    static_cast<const ActivationPair*>(job.x[t]), job.n / 32);
}

#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kScalarOps = tier_table<Q8_0Block, Q4_0Block>();

}  // namespace nemo
