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
typedef int32_t NativeI __attribute__((vector_size(64)));
typedef int16_t NativeWords __attribute__((vector_size(64)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 4, kFloatTokens = 6;
constexpr int kScanTokens = 4, kScanVectors = 4, kOneScanVectors = 4;
constexpr int kScoreRows = 16, kWeighVectors = 8;
constexpr int kFewRows = 4, kFewQueries = 5;
constexpr int kKeyVectors = 2, kKeyQueries = 4;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return _mm512_fmadd_ps(a, b, c);
}

NEMO_INLINE float sum_native(NativeF v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The sums of the lanes of 16 vectors, each in the order of sum_native. Halves of two vectors are
// added at a time: a blend, which more ports can do, has the lower half of one beside the upper
// half of the other, a shuffle the opposite ones.
NEMO_INLINE NativeF sums_native(const NativeF* v) {
    const __m512i parts =
        _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    const __m512i ones =
        _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    __m512 eights[8], fours[4], twos[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
        eights[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, v[i], v[i + 8]),
                                  _mm512_shuffle_f32x4(v[i], v[i + 8], 0x4e));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
        fours[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, eights[i], eights[i + 4]),
                                 _mm512_permutex2var_ps(eights[i], parts, eights[i + 4]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
        twos[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, fours[i], fours[i + 2]),
                                _mm512_shuffle_ps(fours[i], fours[i + 2], 0x4e));
    return _mm512_add_ps(_mm512_mask_blend_ps(0xaaaa, twos[0], twos[1]),
                         _mm512_permutex2var_ps(twos[0], ones, twos[1]));
}

NEMO_INLINE NativeF load_f16_native(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

NEMO_INLINE NativeF load_bf16_native(const void* p) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

NEMO_INLINE NativeF load_i8_native(const void* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}

NEMO_INLINE NativeI load_parts_native(const unsigned char* p, int64_t stride) {
    const auto load = [p](int64_t at) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + at));
    };
    __m512i v = _mm512_castsi128_si512(load(0));
    v = _mm512_inserti32x4(v, load(stride), 1);
    v = _mm512_inserti32x4(v, load(2 * stride), 2);
    return reinterpret_cast<NativeI>(_mm512_inserti32x4(v, load(3 * stride), 3));
}

NEMO_INLINE void transpose_parts_native(NativeI* v) {
    const auto at = [v](int i) { return reinterpret_cast<__m512i>(v[i]); };
    const __m512i a = _mm512_unpacklo_epi32(at(0), at(1)), b = _mm512_unpackhi_epi32(at(0), at(1));
    const __m512i c = _mm512_unpacklo_epi32(at(2), at(3)), d = _mm512_unpackhi_epi32(at(2), at(3));
    v[0] = reinterpret_cast<NativeI>(_mm512_unpacklo_epi64(a, c));
    v[1] = reinterpret_cast<NativeI>(_mm512_unpackhi_epi64(a, c));
    v[2] = reinterpret_cast<NativeI>(_mm512_unpacklo_epi64(b, d));
    v[3] = reinterpret_cast<NativeI>(_mm512_unpackhi_epi64(b, d));
}

NEMO_INLINE NativeI dot_pairs_native(NativeI sums, NativeI pairs, int32_t x) {
    return reinterpret_cast<NativeI>(_mm512_dpwssd_epi32(
        reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(pairs), _mm512_set1_epi32(x)));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_attention.inl"
#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_float_panel.inl"
#include "kernels/cpu/tier_mamba.inl"
#include "kernels/cpu/tier_sequence.inl"

// Of non-negative values or NaN, compared as integers.
NEMO_INLINE float largest_lane(const Vec16& values) {
    const __m512i bits = _mm512_castps_si512(values.v);
    const __m256i eight =
        _mm256_max_epu32(_mm512_castsi512_si256(bits), _mm512_extracti32x8_epi32(bits, 1));
    const __m128i four =
        _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xb1))));
}

// The 16 values, rounded to nearest, as int8, their sum and that of their magnitudes.
NEMO_INLINE void store_codes(const Vec16& values, int8_t* codes, int32_t* sum, int32_t* magnitude) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values.v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), bytes);
    const __m128i zero = _mm_setzero_si128();
    const __m128i sums = _mm_dpbusd_epi32(zero, _mm_set1_epi8(1), bytes);
    const __m128i magnitudes = _mm_sad_epu8(_mm_abs_epi8(bytes), zero);  // two of eight bytes
    const __m128i two = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
    *sum = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
    *magnitude = _mm_cvtsi128_si32(_mm_add_epi32(magnitudes, _mm_shuffle_epi32(magnitudes, 0x4e)));
}

// Of 64 values times one or, from the 33rd on, the other factor.
NEMO_INLINE void store_64_codes(const float* x, const Vec16& low, const Vec16& high, int8_t* codes,
                                int32_t* sums, int32_t* magnitudes) {
    const auto ints = [x](int i, const Vec16& factor) __attribute__((always_inline)) {
        return _mm512_cvtps_epi32((load(x + 16 * i) * factor).v);
    };
    const __m512i words_low = _mm512_packs_epi32(ints(0, low), ints(1, low));
    const __m512i words_high = _mm512_packs_epi32(ints(2, high), ints(3, high));
    __m512i bytes = _mm512_packs_epi16(words_low, words_high);
    // What is no number became -128, which no number does; elsewhere such a code is 0.
    const __m512i none = _mm512_set1_epi8(-128);
    bytes = _mm512_maskz_mov_epi8(_mm512_cmpneq_epi8_mask(bytes, none), bytes);
    // Dword 4i + v holds four codes of vector v.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    bytes = _mm512_permutexvar_epi32(order, bytes);
    _mm512_storeu_si512(codes, bytes);

    const __m512i zero = _mm512_setzero_si512();
    __m512i sum = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(1), bytes);
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
    __m512i magnitude = _mm512_sad_epu8(_mm512_abs_epi8(bytes), zero);  // two of eight bytes
    magnitude = _mm512_add_epi32(magnitude, _mm512_shuffle_epi32(magnitude, _MM_PERM_BADC));
    // The first dword of every four.
    const auto store_firsts = [order](int32_t * to, __m512i v) __attribute__((always_inline)) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                         _mm512_castsi512_si128(_mm512_permutexvar_epi32(order, v)));
    };
    store_firsts(sums, sum);
    store_firsts(magnitudes, magnitude);
}

#include "kernels/cpu/strip_avx512.inl"
#include "kernels/cpu/tier_panel.inl"

#include "kernels/cpu/dots_avx512.inl"
#include "kernels/cpu/tile_avx512.inl"

#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kAvx512Ops = tier_table(AllFormats{});

}  // namespace nemo
