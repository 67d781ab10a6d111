// AVX2 with FMA and F16C. Exports kAvx2Ops only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#include <immintrin.h>

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

constexpr int kNativeLanes = 8;
typedef float NativeF __attribute__((vector_size(32)));
typedef uint32_t NativeU __attribute__((vector_size(32)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 2, kFloatTokens = 2;
constexpr int kScanTokens = 2, kScanVectors = 1, kOneScanVectors = 2;
constexpr int kScoreRows = 4, kWeighVectors = 4;
constexpr int kFewRows = 2, kFewQueries = 2;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return _mm256_fmadd_ps(a, b, c);
}

NEMO_INLINE float sum_native(NativeF v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The sums of the lanes of 8 vectors, each in the order of sum_native.
NEMO_INLINE NativeF sums_native(const NativeF* v) {
    __m256 fours[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
        fours[i] = _mm256_add_ps(_mm256_permute2f128_ps(v[i], v[i + 4], 0x20),
                                 _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
    const __m256 a = _mm256_add_ps(_mm256_shuffle_ps(fours[0], fours[1], 0x44),
                                   _mm256_shuffle_ps(fours[0], fours[1], 0xee));
    const __m256 b = _mm256_add_ps(_mm256_shuffle_ps(fours[2], fours[3], 0x44),
                                   _mm256_shuffle_ps(fours[2], fours[3], 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}

NEMO_INLINE NativeF load_f16_native(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

NEMO_INLINE NativeF load_bf16_native(const void* p) {
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

NEMO_INLINE NativeF load_i8_native(const void* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_attention.inl"
#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_float_panel.inl"
#include "kernels/cpu/tier_mamba.inl"
#include "kernels/cpu/tier_sequence.inl"

typedef int32_t NativeI __attribute__((vector_size(32)));

// Bytes widened to words, even and odd ones apart: products of bytes would not fit into the 16 bits
// of vpmaddubsw.
struct NativeCodes {
    __m256i even, odd;
};

NEMO_INLINE NativeCodes load_codes_native(const unsigned char* p) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_and_si256(codes, _mm256_set1_epi16(255)), _mm256_srli_epi16(codes, 8)};
}
NEMO_INLINE NativeI dot_native(NativeI sums, const NativeCodes& codes, int32_t x) {
    const __m256i all = _mm256_set1_epi32(x);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8);
    const __m256i odd = _mm256_srai_epi16(all, 8);
    return sums + reinterpret_cast<NativeI>(_mm256_madd_epi16(codes.even, even)) +
           reinterpret_cast<NativeI>(_mm256_madd_epi16(codes.odd, odd));
}

NEMO_INLINE NativeI dot_pairs_native(NativeI sums, NativeI pairs, int32_t x) {
    return sums + reinterpret_cast<NativeI>(
                      _mm256_madd_epi16(reinterpret_cast<__m256i>(pairs), _mm256_set1_epi32(x)));
}

constexpr int kStripTokens = 2;
constexpr int kTileTokens = 3;

#include "kernels/cpu/tier_int8.inl"

#include "kernels/cpu/strip_portable.inl"
#include "kernels/cpu/tier_panel.inl"

#include "kernels/cpu/dots_portable.inl"
#include "kernels/cpu/tile_portable.inl"

#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kAvx2Ops = tier_table(AllFormats{});

}  // namespace nemo
