// Vectors of 8 lanes by AVX2, FMA and F16C, for tier_vector.inl. Included inside the anonymous
// namespace of a tier file.

constexpr int kNativeLanes = 8;
typedef float NativeF __attribute__((vector_size(32)));
typedef uint32_t NativeU __attribute__((vector_size(32)));
typedef int32_t NativeI __attribute__((vector_size(32)));
typedef int16_t NativeWords __attribute__((vector_size(32)));

// Sizes of the register blocks; they do not influence results.
constexpr int kFloatRows = 2, kFloatTokens = 2;
constexpr int kScanTokens = 2, kScanVectors = 1, kOneScanVectors = 2;
constexpr int kScoreRows = 4, kWeighVectors = 4;
constexpr int kFewRows = 2, kFewQueries = 2;
constexpr int kKeyVectors = 2, kKeyQueries = 2;

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

NEMO_INLINE NativeI load_parts_native(const unsigned char* p, int64_t stride) {
    return reinterpret_cast<NativeI>(_mm256_loadu2_m128i(
        reinterpret_cast<const __m128i*>(p + stride), reinterpret_cast<const __m128i*>(p)));
}

NEMO_INLINE void transpose_parts_native(NativeI* v) {
    const auto at = [v](int i) { return reinterpret_cast<__m256i>(v[i]); };
    const __m256i a = _mm256_unpacklo_epi32(at(0), at(1)), b = _mm256_unpackhi_epi32(at(0), at(1));
    const __m256i c = _mm256_unpacklo_epi32(at(2), at(3)), d = _mm256_unpackhi_epi32(at(2), at(3));
    v[0] = reinterpret_cast<NativeI>(_mm256_unpacklo_epi64(a, c));
    v[1] = reinterpret_cast<NativeI>(_mm256_unpackhi_epi64(a, c));
    v[2] = reinterpret_cast<NativeI>(_mm256_unpacklo_epi64(b, d));
    v[3] = reinterpret_cast<NativeI>(_mm256_unpackhi_epi64(b, d));
}

NEMO_INLINE float load_half(const void* p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _cvtsh_ss(bits);
}

// to [8][16] = 8 columns of from [8][stride].
NEMO_INLINE void transpose_native(const uint32_t* from, int64_t stride, uint32_t* to) {
    __m256i pairs[8], fours[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // rows 2i, 2i + 1
        const auto row = [&](int r) {
            return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + r * stride));
        };
        pairs[2 * i] = _mm256_unpacklo_epi32(row(2 * i), row(2 * i + 1));
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(row(2 * i), row(2 * i + 1));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // rows 4 (i / 2) ...: columns 2 (i % 2), that + 1, and those + 4
        const int first = i / 2 * 4 + i % 2;
        fours[2 * i] = _mm256_unpacklo_epi64(pairs[first], pairs[first + 2]);
        fours[2 * i + 1] = _mm256_unpackhi_epi64(pairs[first], pairs[first + 2]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const auto store_row = [&](int r, __m256i v) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16 * r), v);
        };
        store_row(i, _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20));
        store_row(i + 4, _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31));
    }
}
