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
constexpr int kInt8Rows = 1, kInt8Tokens = 4;
constexpr int kScanVectors = 2;

NEMO_INLINE NativeF fma_native(NativeF a, NativeF b, NativeF c) {
    return _mm256_fmadd_ps(a, b, c);
}

NEMO_INLINE float sum_native(NativeF v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

NEMO_INLINE NativeF load_f16_native(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

#include "kernels/cpu/tier_vector.inl"

#include "kernels/cpu/tier_dot_float.inl"
#include "kernels/cpu/tier_sequence.inl"

NEMO_INLINE __m256i load32(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

NEMO_INLINE Vec16 scales_of(const unsigned char* first, const unsigned char* second) {
    const auto scale = [](const unsigned char* p) {
        unsigned short bits;
        __builtin_memcpy(&bits, p, sizeof bits);
        return _mm256_set1_ps(_cvtsh_ss(bits));
    };
    const NativeF high = second != nullptr ? scale(second) : _mm256_setzero_ps();
    return {{scale(first)}, {high}};
}

// Sums of 4 products of unsigned and signed bytes. The first step adds two of them in 16 bits,
// which holds 2 * 128 * 127 but not 2 * 255 * 127.
NEMO_INLINE __m256i dot4(__m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned_bytes, signed_bytes),
                             _mm256_set1_epi16(1));
}

// |weight| <= 128 as unsigned bytes times the activation with the weight's sign. Activations are
// never -128, so the sign can move.
struct Q8_0Pair {
    static constexpr int64_t kBlockBytes = 34;
    __m256i low, high;
    Vec16 scale;

    static NEMO_INLINE_MEMBER Q8_0Pair load(const unsigned char* p, bool has_second) {
        const unsigned char* second = has_second ? p + kBlockBytes : nullptr;
        const __m256i high = has_second ? load32(second + 2) : _mm256_setzero_si256();
        return {load32(p + 2), high, scales_of(p, second)};
    }
    static NEMO_INLINE_MEMBER NativeF dot(__m256i weights, const int8_t* codes) {
        const __m256i moved = _mm256_sign_epi8(load32(codes), weights);
        return _mm256_cvtepi32_ps(dot4(_mm256_abs_epi8(weights), moved));
    }
    NEMO_INLINE_MEMBER Vec16 lanes(const ActivationPair& x) const {
        return {{dot(low, x.codes)}, {dot(high, x.codes + 32)}};
    }
};

// Codes 0 ... 15 are weights plus 8; the activations' bias takes the 8 away.
struct Q4_0Pair {
    static constexpr int64_t kBlockBytes = 18;
    __m256i low, high;
    Vec16 scale;

    static NEMO_INLINE_MEMBER __m256i nibbles(const unsigned char* p) {
        const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        const __m256i both =
            _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
        return _mm256_and_si256(both, _mm256_set1_epi8(15));
    }
    static NEMO_INLINE_MEMBER Q4_0Pair load(const unsigned char* p, bool has_second) {
        const unsigned char* second = has_second ? p + kBlockBytes : nullptr;
        const __m256i high = has_second ? nibbles(second + 2) : _mm256_setzero_si256();
        return {nibbles(p + 2), high, scales_of(p, second)};
    }
    static NEMO_INLINE_MEMBER NativeF dot(__m256i weights, const int8_t* codes,
                                          const int32_t* bias) {
        const __m256i products = dot4(weights, load32(codes));
        return _mm256_cvtepi32_ps(_mm256_add_epi32(products, load32(bias)));
    }
    NEMO_INLINE_MEMBER Vec16 lanes(const ActivationPair& x) const {
        return {{dot(low, x.codes, x.bias)}, {dot(high, x.codes + 32, x.bias + 8)}};
    }
};

#include "kernels/cpu/tier_dot_int8.inl"
#include "kernels/cpu/tier_table.inl"

}  // namespace

constinit const TierOps kAvx2Ops = tier_table<Q8_0Pair, Q4_0Pair>();

}  // namespace nemo
