// Any x86-64: vectors of four floats (SSE2 is part of the architecture), no fused multiply-add, and
// plain loops for the integer sums. Exports kScalarOps only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#include <emmintrin.h>

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

constexpr int kNativeLanes = 4;
typedef float NativeF __attribute__((vector_size(16)));
typedef uint32_t NativeU __attribute__((vector_size(16)));
typedef int32_t NativeI __attribute__((vector_size(16)));
typedef int16_t NativeWords __attribute__((vector_size(16)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 1, kFloatTokens = 2;
constexpr int kScanTokens = 1, kScanVectors = 1, kOneScanVectors = 1;
constexpr int kScoreRows = 2, kWeighVectors = 2;
constexpr int kFewRows = 2, kFewQueries = 2;
constexpr int kKeyVectors = 1, kKeyQueries = 2;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return a * b + c;
}

NEMO_INLINE float sum_native(NativeF v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}

// The sums of the lanes of 4 vectors, each in the order of sum_native.
NEMO_INLINE NativeF sums_native(const NativeF* v) {
    const __m128 a = _mm_add_ps(_mm_shuffle_ps(v[0], v[1], 0x44), _mm_shuffle_ps(v[0], v[1], 0xee));
    const __m128 b = _mm_add_ps(_mm_shuffle_ps(v[2], v[3], 0x44), _mm_shuffle_ps(v[2], v[3], 0xee));
    return _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd));
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

NEMO_INLINE NativeF load_bf16_native(const void* p) {
    const __m128i words = _mm_loadl_epi64(static_cast<const __m128i*>(p));
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), words));
}

NEMO_INLINE NativeF load_i8_native(const void* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    const __m128i bytes = _mm_cvtsi32_si128(four);
    const __m128i words = _mm_unpacklo_epi8(bytes, bytes);
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(words, words), 24));
}

NEMO_INLINE NativeI load_parts_native(const unsigned char* p, int64_t) {
    return reinterpret_cast<NativeI>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

NEMO_INLINE void transpose_parts_native(NativeI* v) {
    const auto at = [v](int i) { return reinterpret_cast<__m128i>(v[i]); };
    const __m128i a = _mm_unpacklo_epi32(at(0), at(1)), b = _mm_unpackhi_epi32(at(0), at(1));
    const __m128i c = _mm_unpacklo_epi32(at(2), at(3)), d = _mm_unpackhi_epi32(at(2), at(3));
    v[0] = reinterpret_cast<NativeI>(_mm_unpacklo_epi64(a, c));
    v[1] = reinterpret_cast<NativeI>(_mm_unpackhi_epi64(a, c));
    v[2] = reinterpret_cast<NativeI>(_mm_unpacklo_epi64(b, d));
    v[3] = reinterpret_cast<NativeI>(_mm_unpackhi_epi64(b, d));
}

NEMO_INLINE NativeI dot_pairs_native(NativeI sums, NativeI pairs, int32_t x) {
    return sums + reinterpret_cast<NativeI>(
                      _mm_madd_epi16(reinterpret_cast<__m128i>(pairs), _mm_set1_epi32(x)));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_attention.inl"
#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_float_panel.inl"
#include "kernels/cpu/tier_mamba.inl"
#include "kernels/cpu/tier_sequence.inl"

// Bytes widened to words, even and odd ones apart, as pmaddwd wants them.
struct NativeCodes {
    __m128i even, odd;
};

NEMO_INLINE NativeCodes load_codes_native(const unsigned char* p) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm_and_si128(codes, _mm_set1_epi16(255)), _mm_srli_epi16(codes, 8)};
}
template <bool>
NEMO_INLINE NativeI dot_native(NativeI sums, const NativeCodes& codes, int32_t x) {
    const __m128i all = _mm_set1_epi32(x);
    const __m128i even = _mm_srai_epi16(_mm_slli_epi16(all, 8), 8);
    const __m128i odd = _mm_srai_epi16(all, 8);
    return sums + reinterpret_cast<NativeI>(_mm_madd_epi16(codes.even, even)) +
           reinterpret_cast<NativeI>(_mm_madd_epi16(codes.odd, odd));
}

// A subnormal half does not become a subnormal float on the way: multiplying one takes a processor
// some hundred cycles, and scales of blocks often are such halves.
NEMO_INLINE float load_half(const unsigned char* p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    const uint32_t magnitude = bits & 0x7fffu;
    const uint32_t shifted = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
    float value;
    __builtin_memcpy(&value, &shifted, sizeof value);
    if (magnitude < 0x400u) value = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
    return (bits & 0x8000u) != 0 ? -value : value;
}

// to [4][16] = 4 columns of from [4][stride].
NEMO_INLINE void transpose_native(const uint32_t* from, int64_t stride, uint32_t* to) {
    __m128 rows[4];
    for (int i = 0; i < 4; ++i)
        rows[i] = _mm_loadu_ps(reinterpret_cast<const float*>(from + i * stride));
    _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
    for (int i = 0; i < 4; ++i) _mm_storeu_ps(reinterpret_cast<float*>(to + 16 * i), rows[i]);
}

constexpr int kStripTokens = 1;
constexpr int kTileTokens = 2;

#include "kernels/cpu/tier_int8.inl"

#include "kernels/cpu/strip_portable.inl"
#include "kernels/cpu/tier_panel.inl"

#include "kernels/cpu/dots_portable.inl"
#include "kernels/cpu/tile_portable.inl"

#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kScalarOps = tier_table(AllFormats{});

}  // namespace nemo
