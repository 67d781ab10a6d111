// AVX-512 with VNNI. Exports kAvx512Ops only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#include <immintrin.h>

// GCC 12 warns about the deliberately undefined registers inside its own intrinsics.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

constexpr int kNativeLanes = 16;
typedef float NativeF __attribute__((vector_size(64)));
typedef uint32_t NativeU __attribute__((vector_size(64)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 4, kFloatTokens = 4;
constexpr int kInt8Rows = 2, kInt8Tokens = 4;
constexpr int kScanVectors = 4;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return _mm512_fmadd_ps(a, b, c);
}

NEMO_INLINE float sum_native(NativeF v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

NEMO_INLINE NativeF load_f16_native(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_sequence.inl"

// vpdpbusd multiplies unsigned by signed bytes, so weights are taken plus an offset and the sums
// start at the activations' bias, which takes it away again: exact in int32.
NEMO_INLINE Vec16 lanes_of(__m512i weights, const ActivationPair& x) {
    const __m512i sums =
        _mm512_dpbusd_epi32(_mm512_loadu_si512(x.bias), weights, _mm512_loadu_si512(x.codes));
    return {_mm512_cvtepi32_ps(sums)};
}

// The fp16 scales at words 0 and kSecond of 32 or 64 bytes, spread over lanes 0-7 and 8-15.
template <int kSecond>
NEMO_INLINE __m512i spread_index() {
    const __m256i index =
        _mm256_inserti128_si256(_mm256_setzero_si256(), _mm_set1_epi16(kSecond), 1);
    return _mm512_zextsi256_si512(index);
}

NEMO_INLINE Vec16 first_scale(const unsigned char* p) {
    short bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return {_mm512_cvtph_ps(_mm256_zextsi128_si256(_mm_set1_epi16(bits)))};
}

NEMO_INLINE __m256i load32(const unsigned char* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

NEMO_INLINE __m128i load16(const unsigned char* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

struct Q8_0Pair {
    static constexpr int64_t kBlockBytes = 34;
    __m512i codes;
    Vec16 scale;

    static NEMO_INLINE_MEMBER Q8_0Pair load(const unsigned char* p, bool has_second) {
        const __m512i offset = _mm512_set1_epi8(-128);
        const __m512i first = _mm512_zextsi256_si512(load32(p + 2));
        if (!has_second) return {_mm512_xor_si512(first, offset), first_scale(p)};
        const __m512i both = _mm512_inserti64x4(first, load32(p + kBlockBytes + 2), 1);
        const __m512i scales =
            _mm512_permutexvar_epi16(spread_index<kBlockBytes / 2>(), _mm512_loadu_si512(p));
        return {_mm512_xor_si512(both, offset), {_mm512_cvtph_ps(_mm512_castsi512_si256(scales))}};
    }
    NEMO_INLINE_MEMBER Vec16 lanes(const ActivationPair& x) const { return lanes_of(codes, x); }
};

struct Q4_0Pair {
    static constexpr int64_t kBlockBytes = 18;
    __m512i codes;
    Vec16 scale;

    // Elements 0-15 of a block are the low nibbles of its 16 bytes, elements 16-31 the high ones.
    static NEMO_INLINE_MEMBER __m512i nibbles(__m128i first, __m128i second) {
        const __m256i packed = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
        const __m512i twice = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3),
                                                       _mm512_castsi256_si512(packed));
        const __m512i shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
        return _mm512_and_si512(shifted, _mm512_set1_epi8(15));
    }
    static NEMO_INLINE_MEMBER Q4_0Pair load(const unsigned char* p, bool has_second) {
        if (!has_second) return {nibbles(load16(p + 2), _mm_setzero_si128()), first_scale(p)};
        const __m256i index = _mm512_castsi512_si256(spread_index<kBlockBytes / 2>());
        const __m256i scales = _mm256_permutexvar_epi16(index, load32(p));
        return {nibbles(load16(p + 2), load16(p + kBlockBytes + 2)), {_mm512_cvtph_ps(scales)}};
    }
    NEMO_INLINE_MEMBER Vec16 lanes(const ActivationPair& x) const { return lanes_of(codes, x); }
};

#include "kernels/cpu/tier_dot_int8.inl"
#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kAvx512Ops = tier_table<Q8_0Pair, Q4_0Pair>();

}  // namespace nemo
