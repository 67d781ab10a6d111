// Reads a strip of 16 rows of a block format row by row, for tiers without AVX-512: the same codes,
// scales and minimums as strip_avx512.inl, by the plain loops of quant/formats_*.cpp. A tier file
// defines before load_half(const unsigned char*) and transpose_native(from, stride, to): a square
// of kNativeLanes elements of four bytes, to rows of 16.

// Of non-negative values or NaN, compared as integers.
NEMO_INLINE float largest_lane(const Vec16& values) {
    float lanes[16];
    store(lanes, values);
    uint32_t largest_bits = 0;
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, lanes + i, sizeof bits);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    float largest;
    __builtin_memcpy(&largest, &largest_bits, sizeof largest);
    return largest;
}

// The 16 values, rounded to nearest, as int8, their sum and that of their magnitudes.
NEMO_INLINE void store_codes(const Vec16& values, int8_t* codes, int32_t* sum, int32_t* magnitude) {
    float rounded[16];
    store(rounded, values + splat(0x1.8p23f));  // leaves the integer in the low bits
    *sum = *magnitude = 0;
    for (int i = 0; i < 16; ++i) {
        int32_t bits;
        __builtin_memcpy(&bits, rounded + i, sizeof bits);
        codes[i] = static_cast<int8_t>(bits);
        *sum += codes[i];
        *magnitude += codes[i] < 0 ? -codes[i] : codes[i];
    }
}
// Of 64 values times one or, from the 33rd on, the other factor.
NEMO_INLINE void store_64_codes(const float* x, const Vec16& low, const Vec16& high, int8_t* codes,
                                int32_t* sums, int32_t* magnitudes) {
    for (int i = 0; i < 4; ++i)
        store_codes(load(x + 16 * i) * (i < 2 ? low : high), codes + 16 * i, sums + i,
                    magnitudes + i);
}

// Any sixteen rows.
struct ListedRows {
    const unsigned char* rows[kStripRows];
};

// Scales and minimums of a block: fp32, the latter negative; or integers and, apart from them, the
// factors d and -d_min (QuantTraits::has_integer_scales).
template <bool kIntegers>
struct Scale {
    using Type = float;
};
template <>
struct Scale<true> {
    using Type = int32_t;
};
template <QuantFormat kFormat>
using ScaleOf = typename Scale<quant_traits(kFormat).has_integer_scales()>::Type;

// One row's block.
template <QuantFormat kFormat>
NEMO_INLINE_MEMBER void read_row_block(const unsigned char* p, unsigned char* q,
                                       ScaleOf<kFormat>* scale, ScaleOf<kFormat>* min,
                                       float* factors);

template <QuantFormat kFormat>
struct UnpackedBlock {
    alignas(64) unsigned char codes[256 * kStripRows];    // [columns/4][16][4]
    alignas(64) ScaleOf<kFormat> scale[16 * kStripRows];  // [sub-blocks][16]
    alignas(64) ScaleOf<kFormat> min[16 * kStripRows];    // the same
    alignas(64) float factors[2 * kStripRows];            // [2][16]
};

// to [kColumns][16] = from [16][kColumns], elements of four bytes.
template <int kColumns>
NEMO_INLINE void transpose(const void* from, void* to) {
    const auto* source = static_cast<const uint32_t*>(from);
    auto* target = static_cast<uint32_t*>(to);
    if constexpr (kColumns % kNativeLanes == 0)
        for (int r = 0; r < kStripRows; r += kNativeLanes)
            for (int i = 0; i < kColumns; i += kNativeLanes)
                transpose_native(source + r * kColumns + i, kColumns, target + i * kStripRows + r);
    else
        for (int r = 0; r < kStripRows; ++r)
            for (int i = 0; i < kColumns; ++i)
                __builtin_memcpy(target + i * kStripRows + r, source + r * kColumns + i, 4);
}

// The block at `offset` of every row.
template <QuantFormat kFormat>
NEMO_INLINE void read_block(const ListedRows& rows, int64_t offset, UnpackedBlock<kFormat>& block) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kColumns = kTraits.block_columns, kSubs = kColumns / kTraits.sub_columns;
    alignas(64) unsigned char codes[kStripRows * kColumns];
    ScaleOf<kFormat> scales[kStripRows * kSubs], mins[kStripRows * kSubs];
    for (int r = 0; r < kStripRows; ++r) {
        float factors[2] = {};
        read_row_block<kFormat>(rows.rows[r] + offset, codes + r * kColumns, scales + r * kSubs,
                                mins + r * kSubs, factors);
        for (int i = 0; i < 2; ++i) block.factors[i * kStripRows + r] = factors[i];
    }
    transpose<kColumns / 4>(codes, block.codes);
    transpose<kSubs>(scales, block.scale);
    if constexpr (kTraits.has_min) transpose<kSubs>(mins, block.min);
}

// The block at `offset` of 16 rows of a panel (tier_panel.inl).
template <QuantFormat kFormat>
NEMO_INLINE void expand_block(const ListedRows& rows, int64_t offset, unsigned char* codes,
                              float* scales) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSubs = kTraits.block_columns / kTraits.sub_columns;
    UnpackedBlock<kFormat> block;
    read_block<kFormat>(rows, offset, block);
    for (int i = 0; i < kTraits.block_columns / 4; ++i)
        __builtin_memcpy(codes + i * (kPanelRows * 4), block.codes + i * (kStripRows * 4),
                         kStripRows * 4);
    const auto put = [&](const auto* values) {
        __builtin_memcpy(scales, values, kStripRows * sizeof(float));
        scales += kPanelRows;
    };
    const auto put_pairs = [&](const auto* low, const auto* high) {
        int32_t pairs[kStripRows];
        for (int r = 0; r < kStripRows; ++r) pairs[r] = word_pair(low[r], high[r]);
        put(pairs);
    };
    if constexpr (kTraits.has_integer_scales()) {
        constexpr int32_t kZeros[kStripRows] = {};
        for (int j = 0; j < kSubs; ++j) put_pairs(block.scale + j * kStripRows, kZeros);
        if constexpr (kTraits.has_min)
            for (int p = 0; p < kSubs / 2; ++p) {
                const int32_t* low = block.min + first_of_pair(p) * kStripRows;
                put_pairs(low, low + kPairDistance * kStripRows);
            }
        put(block.factors);
        if constexpr (kTraits.has_min) put(block.factors + kStripRows);
    } else {
        for (int j = 0; j < kSubs; ++j) {
            put(block.scale + j * kStripRows);
            if constexpr (kTraits.is_biased()) {
                float biases[kStripRows];
                store(biases, load(block.scale + j * kStripRows) * splat(-kSumBias));
                put(biases);
            }
            if constexpr (kTraits.has_min) put(block.min + j * kStripRows);
        }
    }
}

constexpr unsigned char kIq4Codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                         129, 141, 153, 166, 181, 197, 217, 241};
// Twice the E2M1 value, plus 12.
constexpr unsigned char kFloat4Codes[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                            12, 11, 10, 9,  8,  6,  4,  0};

// n bytes of nibbles: low ones first, then the high ones.
NEMO_INLINE void read_nibbles(const unsigned char* p, int n, unsigned char* q) {
    for (int i = 0; i < n; ++i) {
        q[i] = p[i] & 15;
        q[i + n] = p[i] >> 4;
    }
}
NEMO_INLINE void look_up(const unsigned char* table, int n, unsigned char* q) {
    for (int i = 0; i < n; ++i) q[i] = table[q[i]];
}
NEMO_INLINE void add_fifth_bits(const unsigned char* p, unsigned char* q) {
    uint32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    for (int i = 0; i < 32; ++i) q[i] = static_cast<unsigned char>(q[i] | (bits >> i & 1) << 4);
}

// ---- blocks of 32 and 64

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q4_0>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float*, float*) {
    *scale = load_half(p);
    read_nibbles(p + 2, 16, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q4_1>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float* negative_min,
                                                          float*) {
    *scale = load_half(p);
    *negative_min = load_half(p + 2);
    read_nibbles(p + 4, 16, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q5_0>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float*, float*) {
    *scale = load_half(p);
    read_nibbles(p + 6, 16, q);
    add_fifth_bits(p + 2, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q5_1>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float* negative_min,
                                                          float*) {
    *scale = load_half(p);
    *negative_min = load_half(p + 2);
    read_nibbles(p + 8, 16, q);
    add_fifth_bits(p + 4, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q8_0>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float*, float*) {
    *scale = load_half(p);
    for (int i = 0; i < 32; ++i) q[i] = p[2 + i] ^ 0x80;
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::iq4_nl>(const unsigned char* p,
                                                            unsigned char* q, float* scale, float*,
                                                            float*) {
    *scale = load_half(p);
    read_nibbles(p + 2, 16, q);
    look_up(kIq4Codes, 32, q);
}
// Half of the scale 2^(exponent - 127), because the codes are doubled. The two smallest are
// subnormal.
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::mxfp4>(const unsigned char* p, unsigned char* q,
                                                           float* scale, float*, float*) {
    const uint32_t exponent = p[0];
    const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
    __builtin_memcpy(scale, &bits, sizeof bits);
    read_nibbles(p + 1, 16, q);
    look_up(kFloat4Codes, 32, q);
}
// Scales are half of an unsigned E4M3 value; 0x7F counts as 0.
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::nvfp4>(const unsigned char* p, unsigned char* q,
                                                           float* scale, float*, float*) {
    for (int b = 0; b < 4; ++b) {
        const uint32_t bits = p[b] & 0x7fu, shifted = bits << 20;
        float value;
        __builtin_memcpy(&value, &shifted, sizeof value);
        scale[b] = bits == 0x7fu ? 0.0f : value * 0x1p119f;
        read_nibbles(p + 4 + 8 * b, 8, q + 16 * b);
    }
    look_up(kFloat4Codes, 64, q);
}

#include "kernels/cpu/strip_portable_k.inl"
