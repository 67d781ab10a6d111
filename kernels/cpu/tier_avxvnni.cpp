// AVX-VNNI, for processors that have it without AVX-512: integer products by vpdpbusd on 256 bits.
// Everything else of this tier is AVX2's. Exports kAvxVnniOps only (kernels/cpu/tier.h).
#include "kernels/cpu/tier.h"

#include <immintrin.h>

// What the shared bodies hold beside the products is not used here.
#pragma GCC diagnostic ignored "-Wunused-function"

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))
#define NEMO_INLINE static NEMO_INLINE_MEMBER

namespace nemo {

namespace {

#include "kernels/cpu/avx2_vectors.inl"
#include "kernels/cpu/tier_vector.inl"

typedef __m256i NativeCodes;

NEMO_INLINE NativeCodes load_codes_native(const unsigned char* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
template <bool>
NEMO_INLINE NativeI dot_native(NativeI sums, const NativeCodes& codes, int32_t x) {
    return reinterpret_cast<NativeI>(
        _mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sums), codes, _mm256_set1_epi32(x)));
}

NEMO_INLINE NativeI dot_pairs_native(NativeI sums, NativeI pairs, int32_t x) {
    return reinterpret_cast<NativeI>(_mm256_dpwssd_avx_epi32(
        reinterpret_cast<__m256i>(sums), reinterpret_cast<__m256i>(pairs), _mm256_set1_epi32(x)));
}

constexpr int kStripTokens = 2;
constexpr int kTileTokens = 6;

#include "kernels/cpu/tier_int8.inl"

#include "kernels/cpu/strip_portable.inl"
#include "kernels/cpu/tier_panel.inl"

#include "kernels/cpu/dots_portable.inl"
#include "kernels/cpu/tile_portable.inl"

template <int... kIndex>
constexpr ProductOps product_table(Formats<kIndex...>) {
    return {.dot_strips = {dot_strips<static_cast<QuantFormat>(kIndex)>...},
            .multiply_tile = {multiply_tile<static_cast<QuantFormat>(kIndex)>...}};
}

}  // namespace

constinit const ProductOps kAvxVnniOps = product_table(AllFormats{});

}  // namespace nemo
