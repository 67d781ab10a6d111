// Reads a strip of 16 rows of a block format row by row, for tiers without AVX-512: the same codes,
// scales and minimums as strip_avx512.inl, by the plain loops of quant/formats_*.cpp.

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

// The 16 values, rounded to nearest, as int8; returns their sum.
NEMO_INLINE int32_t store_codes(const Vec16& values, int8_t* codes) {
    float rounded[16];
    store(rounded, values + splat(0x1.8p23f));  // leaves the integer in the low bits
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) {
        int32_t bits;
        __builtin_memcpy(&bits, rounded + i, sizeof bits);
        codes[i] = static_cast<int8_t>(bits);
        sum += codes[i];
    }
    return sum;
}

NEMO_INLINE float load_half(const unsigned char* p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    const uint32_t magnitude = bits & 0x7fffu;
    const uint32_t shifted = magnitude << 13;
    float value;
    __builtin_memcpy(&value, &shifted, sizeof value);
    value *= 0x1p112f;
    uint32_t result;
    __builtin_memcpy(&result, &value, sizeof result);
    result |= (magnitude >= 0x7c00u ? 0x7f800000u : 0u) | (bits & 0x8000u) << 16;
    __builtin_memcpy(&value, &result, sizeof value);
    return value;
}

// Any sixteen rows.
struct ListedRows {
    const unsigned char* rows[kStripRows];
};

// One row's block.
template <QuantFormat kFormat>
NEMO_INLINE_MEMBER void read_row_block(const unsigned char* p, unsigned char* q, float* scale,
                                       float* negative_min);

struct UnpackedBlock {
    alignas(64) unsigned char codes[256 * kStripRows];  // [columns/4][16][4]
    alignas(64) float scale[16 * kStripRows];           // [sub-blocks][16]
    alignas(64) float negative_min[16 * kStripRows];    // the same
};

// The block at `offset` of every row.
template <QuantFormat kFormat>
NEMO_INLINE void read_block(const ListedRows& rows, int64_t offset, UnpackedBlock& block) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kColumns = kTraits.block_columns, kSubs = kColumns / kTraits.sub_columns;
    for (int r = 0; r < kStripRows; ++r) {
        alignas(32) unsigned char q[kColumns];
        float scales[kSubs], negative_mins[kSubs];
        read_row_block<kFormat>(rows.rows[r] + offset, q, scales, negative_mins);
        for (int i = 0; i < kColumns / 4; ++i)
            __builtin_memcpy(block.codes + 4 * (i * kStripRows + r), q + 4 * i, 4);
        for (int j = 0; j < kSubs; ++j) {
            block.scale[j * kStripRows + r] = scales[j];
            if constexpr (kTraits.has_min)
                block.negative_min[j * kStripRows + r] = negative_mins[j];
        }
    }
}

// The block at `offset` of 16 rows of a panel (tier_panel.inl).
template <QuantFormat kFormat>
NEMO_INLINE void expand_block(const ListedRows& rows, int64_t offset, unsigned char* codes,
                              float* scales) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSub = kTraits.sub_columns, kRows = kTraits.panel_rows_per_sub();
    UnpackedBlock block;
    read_block<kFormat>(rows, offset, block);
    for (int place = 0; place < kTraits.block_columns / kSub; ++place) {
        const int sub = summation_order(kFormat, place);
        for (int i = 0; i < kSub / 4; ++i)
            __builtin_memcpy(codes + (place * kSub / 4 + i) * (kPanelRows * 4),
                             block.codes + (sub * kSub / 4 + i) * (kStripRows * 4), kStripRows * 4);
        float* target = scales + place * kRows * kPanelRows;
        const Vec16 scale = load(block.scale + sub * kStripRows);
        store(target, scale);
        if constexpr (kTraits.single()) store(target + kPanelRows, scale * splat(-kSumBias));
        if constexpr (kTraits.has_min)
            store(target + (kRows - 1) * kPanelRows, load(block.negative_min + sub * kStripRows));
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
                                                          float* scale, float*) {
    *scale = load_half(p);
    read_nibbles(p + 2, 16, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q4_1>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float* negative_min) {
    *scale = load_half(p);
    *negative_min = load_half(p + 2);
    read_nibbles(p + 4, 16, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q5_0>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float*) {
    *scale = load_half(p);
    read_nibbles(p + 6, 16, q);
    add_fifth_bits(p + 2, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q5_1>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float* negative_min) {
    *scale = load_half(p);
    *negative_min = load_half(p + 2);
    read_nibbles(p + 8, 16, q);
    add_fifth_bits(p + 4, q);
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q8_0>(const unsigned char* p, unsigned char* q,
                                                          float* scale, float*) {
    *scale = load_half(p);
    for (int i = 0; i < 32; ++i) q[i] = p[2 + i] ^ 0x80;
}
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::iq4_nl>(const unsigned char* p,
                                                            unsigned char* q, float* scale,
                                                            float*) {
    *scale = load_half(p);
    read_nibbles(p + 2, 16, q);
    look_up(kIq4Codes, 32, q);
}
// Half of the scale 2^(exponent - 127), because the codes are doubled. The two smallest are
// subnormal.
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::mxfp4>(const unsigned char* p, unsigned char* q,
                                                           float* scale, float*) {
    const uint32_t exponent = p[0];
    const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
    __builtin_memcpy(scale, &bits, sizeof bits);
    read_nibbles(p + 1, 16, q);
    look_up(kFloat4Codes, 32, q);
}
// Scales are half of an unsigned E4M3 value; 0x7F counts as 0.
template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::nvfp4>(const unsigned char* p, unsigned char* q,
                                                           float* scale, float*) {
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
