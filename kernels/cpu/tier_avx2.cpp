// AVX2 with FMA and F16C. Exports kAvx2Ops only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#include <immintrin.h>

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

#include "kernels/cpu/avx2_vectors.inl"

NEMO_INLINE NativeI dot_pairs_native(NativeI sums, NativeI pairs, int32_t x) {
    return sums + reinterpret_cast<NativeI>(
                      _mm256_madd_epi16(reinterpret_cast<__m256i>(pairs), _mm256_set1_epi32(x)));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_attention.inl"
#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_float_panel.inl"
#include "kernels/cpu/tier_mamba.inl"
#include "kernels/cpu/tier_sequence.inl"

typedef __m256i NativeCodes;

NEMO_INLINE NativeCodes load_codes_native(const unsigned char* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
// Sums of two products of bytes do not always fit into the 16 bits of vpmaddubsw: those of large
// codes are made of words, even and odd ones apart.
template <bool kSmallCodes>
NEMO_INLINE NativeI dot_native(NativeI sums, const NativeCodes& codes, int32_t x) {
    const __m256i all = _mm256_set1_epi32(x);
    if constexpr (kSmallCodes)
        return sums + reinterpret_cast<NativeI>(_mm256_madd_epi16(_mm256_maddubs_epi16(codes, all),
                                                                  _mm256_set1_epi16(1)));
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8);
    const __m256i odd = _mm256_srai_epi16(all, 8);
    return sums +
           reinterpret_cast<NativeI>(
               _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(255)), even)) +
           reinterpret_cast<NativeI>(_mm256_madd_epi16(_mm256_srli_epi16(codes, 8), odd));
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
