// Reads a strip of 16 rows of a block format: codes interleaved so that a vector holds 4 columns of
// each of 16 rows (the operand of vpdpbusd), scales and minimums as vectors with a lane per row.
//
// Packed bytes are transposed first, 16 bytes of every row at a time; nibbles, high bits and tables
// are then resolved on whole vectors, because all of them work byte by byte. The 128-bit pieces are
// inserted straight from memory, which spares half of a 16 x 16 transpose's shuffles.

NEMO_INLINE __m512i bytes_of(int value) {
    return _mm512_set1_epi8(static_cast<char>(value));
}
NEMO_INLINE __m512 half_to_float(__m512i low_words) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(low_words));
}
// a | (b & mask)
NEMO_INLINE __m512i merge(__m512i a, __m512i b, __m512i mask) {
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

// Sixteen rows at equal distances, in few registers.
struct EvenRows {
    const unsigned char* first;
    int64_t stride;

    NEMO_INLINE_MEMBER const unsigned char* row(int r) const {
        const unsigned char* base = r < 8 ? first : first + 8 * stride;
        return base + r % 8 * stride;
    }
};
// Any sixteen rows.
struct ListedRows {
    const unsigned char* rows[kStripRows];

    NEMO_INLINE_MEMBER const unsigned char* row(int r) const { return rows[r]; }
};

// Transposes what lies in the rows and hands it to a sink, which has
//   put_scale(sub, vector), put_min(sub, vector): before the sub-block's codes; or, in formats with
//     integer scales, put_scales(sub, four signed bytes per row), put_mins(pairs, -d_min): those of
//     sub-blocks sub ... sub+3 and all of the block's, and put_factor(d)
//   begin(sub), put(vector index, codes), end(sub): vector i holds columns 4i ... 4i+3; one
//     sub-block at a time
template <class Rows, class Sink>
struct StripReader {
    Rows rows;
    Sink sink;

    // Dword i of the 16 bytes at `offset` of every row; lane = row.
    NEMO_INLINE_MEMBER void load16(int64_t offset, __m512i* out) {
        __m512i x[4];
        const auto piece = [&](int r) __attribute__((always_inline)) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.row(r) + offset));
        };
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            x[i] = _mm512_castsi128_si512(piece(i));
            x[i] = _mm512_inserti32x4(x[i], piece(i + 4), 1);
            x[i] = _mm512_inserti32x4(x[i], piece(i + 8), 2);
            x[i] = _mm512_inserti32x4(x[i], piece(i + 12), 3);
        }
        const __m512i a0 = _mm512_unpacklo_epi32(x[0], x[1]);
        const __m512i a1 = _mm512_unpackhi_epi32(x[0], x[1]);
        const __m512i a2 = _mm512_unpacklo_epi32(x[2], x[3]);
        const __m512i a3 = _mm512_unpackhi_epi32(x[2], x[3]);
        out[0] = _mm512_unpacklo_epi64(a0, a2);
        out[1] = _mm512_unpackhi_epi64(a0, a2);
        out[2] = _mm512_unpacklo_epi64(a1, a3);
        out[3] = _mm512_unpackhi_epi64(a1, a3);
    }
    // The same of 32 bytes: fewer instructions than twice load16, but more that only one port
    // executes, so that it is slower where that port is the bottleneck.
    NEMO_INLINE_MEMBER void load32(int64_t offset, __m512i* out) {
        const auto piece = [&](int r) __attribute__((always_inline)) {
            return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows.row(r) + offset));
        };
        // Of eight rows: dwords i and i + 4 of rows 0-3, then of rows 4-7.
        const auto half = [&](int first, __m512i* to) __attribute__((always_inline)) {
            __m512i x[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i)
                x[i] = _mm512_inserti64x4(_mm512_castsi256_si512(piece(first + i)),
                                          piece(first + 4 + i), 1);
            const __m512i a0 = _mm512_unpacklo_epi32(x[0], x[1]);
            const __m512i a1 = _mm512_unpackhi_epi32(x[0], x[1]);
            const __m512i a2 = _mm512_unpacklo_epi32(x[2], x[3]);
            const __m512i a3 = _mm512_unpackhi_epi32(x[2], x[3]);
            to[0] = _mm512_unpacklo_epi64(a0, a2);
            to[1] = _mm512_unpackhi_epi64(a0, a2);
            to[2] = _mm512_unpacklo_epi64(a1, a3);
            to[3] = _mm512_unpackhi_epi64(a1, a3);
        };
        __m512i low[4], high[4];
        half(0, low);
        half(8, high);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            out[i] = _mm512_shuffle_i32x4(low[i], high[i], 0x88);
            out[i + 4] = _mm512_shuffle_i32x4(low[i], high[i], 0xdd);
        }
    }
};

NEMO_INLINE __m512 negative(__m512 a) {
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

// Byte `index` of every lane, as 16 bits with nothing above them or as 32 bits.
NEMO_INLINE __m512i signed_byte_as_word(__m512i x, int index) {
    // To the second byte of every lane, zeros elsewhere.
    const __m512i lane = _mm512_set1_epi32(static_cast<int>(0x80800080u) + (index << 8));
    const __m512i first = _mm512_set4_epi32(0x0c00, 0x0800, 0x0400, 0);
    return _mm512_srai_epi16(_mm512_shuffle_epi8(x, _mm512_add_epi32(lane, first)), 8);
}
NEMO_INLINE __m512i signed_byte(__m512i x, int index) {
    const auto shift = static_cast<unsigned>(24 - 8 * index);
    return _mm512_srai_epi32(_mm512_slli_epi32(x, shift), 24);
}

NEMO_INLINE __m512i low_nibbles(__m512i x) {
    return _mm512_and_si512(x, bytes_of(15));
}
NEMO_INLINE __m512i high_nibbles(__m512i x) {
    return _mm512_and_si512(_mm512_srli_epi16(x, 4), bytes_of(15));
}
// x shifted right (left, if negative) by n bits; bits that cross bytes are masked by the caller.
NEMO_INLINE __m512i shift_right(__m512i x, int n) {
    return n >= 0 ? _mm512_srli_epi32(x, static_cast<unsigned>(n))
                  : _mm512_slli_epi32(x, static_cast<unsigned>(-n));
}

NEMO_INLINE __m512i iq4_table() {
    return _mm512_broadcast_i32x4(_mm_setr_epi8(
        1, 24, 45, 63, 79, 93, 106, 118, static_cast<char>(129), static_cast<char>(141),
        static_cast<char>(153), static_cast<char>(166), static_cast<char>(181),
        static_cast<char>(197), static_cast<char>(217), static_cast<char>(241)));
}
// Twice the E2M1 value, plus 12.
NEMO_INLINE __m512i float4_table() {
    return _mm512_broadcast_i32x4(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
}

template <QuantFormat kFormat>
struct StripFormat;

// ---- blocks of 32: `vector` is that of the block's first column

// Nibbles of 16 bytes: low ones are columns 0-15, high ones 16-31.
template <class Reader, class Resolve>
NEMO_INLINE void put_nibbles(Reader& in, const __m512i* q, int vector, Resolve resolve) {
    in.sink.begin(vector / 8);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) in.sink.put(vector + i, resolve(low_nibbles(q[i]), i));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) in.sink.put(vector + 4 + i, resolve(high_nibbles(q[i]), 4 + i));
    in.sink.end(vector / 8);
}
// Those at `offset`.
template <class Reader, class Resolve>
NEMO_INLINE void put_nibbles(Reader& in, int64_t offset, int vector, Resolve resolve) {
    __m512i q[4];
    in.load16(offset, q);
    put_nibbles(in, q, vector, resolve);
}
NEMO_INLINE __m512i unchanged(__m512i codes, int) {
    return codes;
}
// Adds 16 where the lane's bits 4i ... 4i+3, one for each of its bytes, are set.
NEMO_INLINE __m512i with_fifth_bits(__m512i codes, __m512i bits, int i) {
    const __m128i byte =
        _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                     _mm_set1_epi8(static_cast<char>(i / 2)));
    const __m512i spread = _mm512_shuffle_epi8(bits, _mm512_broadcast_i32x4(byte));
    const __m512i select = _mm512_set1_epi32(i % 2 == 0 ? 0x08040201 : -0x7fbfdff0);
    return _mm512_mask_add_epi8(codes, _mm512_test_epi8_mask(spread, select), codes, bytes_of(16));
}

template <>
struct StripFormat<QuantFormat::q4_0> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        put_nibbles(in, p + 2, 8 * sub, unchanged);
    }
};

template <>
struct StripFormat<QuantFormat::q4_1> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        const __m512 m = half_to_float(_mm512_srli_epi32(head[0], 16));
        in.sink.put_min(sub, m);
        put_nibbles(in, p + 4, 8 * sub, unchanged);
    }
};

template <>
struct StripFormat<QuantFormat::q5_0> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        const __m512i bits =
            _mm512_or_si512(_mm512_srli_epi32(head[0], 16), _mm512_slli_epi32(head[1], 16));
        put_nibbles(
            in, p + 6, 8 * sub, [&](__m512i codes, int i) __attribute__((always_inline)) {
                return with_fifth_bits(codes, bits, i);
            });
    }
};

template <>
struct StripFormat<QuantFormat::q5_1> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        const __m512 m = half_to_float(_mm512_srli_epi32(head[0], 16));
        in.sink.put_min(sub, m);
        put_nibbles(
            in, p + 8, 8 * sub, [&](__m512i codes, int i) __attribute__((always_inline)) {
                return with_fifth_bits(codes, head[1], i);
            });
    }
};

template <>
struct StripFormat<QuantFormat::q8_0> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        in.sink.begin(sub);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            __m512i q[4];
            in.load16(p + 2 + 16 * half, q);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i)
                in.sink.put(8 * sub + 4 * half + i, _mm512_xor_si512(q[i], bytes_of(128)));
        }
        in.sink.end(sub);
    }
};

template <>
struct StripFormat<QuantFormat::iq4_nl> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, half_to_float(head[0]));
        put_nibbles(
            in, p + 2, 8 * sub, [](__m512i codes, int) __attribute__((always_inline)) {
                return _mm512_shuffle_epi8(iq4_table(), codes);
            });
    }
};

template <>
struct StripFormat<QuantFormat::mxfp4> {
    // 2^(exponent - 128), half of the block's scale, because the codes are doubled. The two
    // smallest are subnormal.
    static NEMO_INLINE_MEMBER __m512 scale_of(__m512i exponent) {
        const __m512i normal =
            _mm512_slli_epi32(_mm512_sub_epi32(exponent, _mm512_set1_epi32(1)), 23);
        const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), exponent);
        const __mmask16 small = _mm512_cmplt_epu32_mask(exponent, _mm512_set1_epi32(2));
        return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal));
    }
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int sub) {
        __m512i head[4];
        in.load16(p, head);
        in.sink.put_scale(sub, scale_of(_mm512_and_si512(head[0], _mm512_set1_epi32(255))));
        put_nibbles(
            in, p + 1, 8 * sub, [](__m512i codes, int) __attribute__((always_inline)) {
                return _mm512_shuffle_epi8(float4_table(), codes);
            });
    }
};

// ---- blocks of 64

template <>
struct StripFormat<QuantFormat::nvfp4> {
    // Half of the unsigned E4M3 value; 0x7F counts as 0.
    static NEMO_INLINE_MEMBER __m512 scale_of(__m512i byte) {
        const __m512i bits = _mm512_and_si512(byte, _mm512_set1_epi32(0x7f));
        const __mmask16 valid = _mm512_cmpneq_epi32_mask(bits, _mm512_set1_epi32(0x7f));
        return _mm512_maskz_mul_ps(valid, _mm512_castsi512_ps(_mm512_slli_epi32(bits, 20)),
                                   _mm512_set1_ps(0x1p119f));
    }
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int block_index) {
        __m512i head[4];
        in.load16(p, head);
#pragma GCC unroll 4
        for (int b = 0; b < 4; ++b)
            in.sink.put_scale(4 * block_index + b,
                              scale_of(_mm512_srli_epi32(head[0], static_cast<unsigned>(8 * b))));
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            __m512i q[4];
            in.load16(p + 4 + 16 * half, q);
#pragma GCC unroll 2
            for (int b = 0; b < 2; ++b) {
                const int sub = 4 * block_index + 2 * half + b;
                const auto value = [&](__m512i nibbles) __attribute__((always_inline)) {
                    return _mm512_shuffle_epi8(float4_table(), nibbles);
                };
                in.sink.begin(sub);
                in.sink.put(4 * sub, value(low_nibbles(q[2 * b])));
                in.sink.put(4 * sub + 1, value(low_nibbles(q[2 * b + 1])));
                in.sink.put(4 * sub + 2, value(high_nibbles(q[2 * b])));
                in.sink.put(4 * sub + 3, value(high_nibbles(q[2 * b + 1])));
                in.sink.end(sub);
            }
        }
    }
};

#include "kernels/cpu/strip_avx512_k.inl"

// Writes what it gets: the sink for panels (tier_panel.inl).
template <QuantFormat kFormat>
struct StoreSink {
    static constexpr QuantTraits kTraits = quant_traits(kFormat);
    static constexpr int kSubs = kTraits.subs_per_group();
    static constexpr int kRows = kTraits.panel_rows_per_group();
    unsigned char* codes;
    float* scales;

    NEMO_INLINE_MEMBER void store_row(int row, __m512 values) const {
        _mm512_store_ps(scales + row * kPanelRows, values);
    }
    NEMO_INLINE_MEMBER void put_scale(int sub, __m512 values) const {
        const int row = sub * (kRows / kSubs);
        store_row(row, values);
        if constexpr (kTraits.is_biased())
            store_row(row + 1, _mm512_mul_ps(values, _mm512_set1_ps(-kSumBias)));
    }
    NEMO_INLINE_MEMBER void put_min(int sub, __m512 values) const {
        store_row((sub + 1) * (kRows / kSubs) - 1, values);
    }
    NEMO_INLINE_MEMBER void put_scales(int sub, __m512i four) const {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
            store_row(sub + j, _mm512_castsi512_ps(signed_byte_as_word(four, j)));
    }
    NEMO_INLINE_MEMBER void put_mins(const __m512i* pairs, __m512 negative_d_min) const {
#pragma GCC unroll 8
        for (int p = 0; p < kSubs / 2; ++p) store_row(kSubs + p, _mm512_castsi512_ps(pairs[p]));
        store_row(kRows - 1, negative_d_min);
    }
    NEMO_INLINE_MEMBER void put_factor(__m512 d) const {
        store_row(kRows - 1 - kTraits.has_min, d);
    }
    NEMO_INLINE_MEMBER void begin(int) const {}
    NEMO_INLINE_MEMBER void put(int vector, __m512i values) const {
        _mm512_store_si512(codes + vector * (kPanelRows * 4), values);
    }
    NEMO_INLINE_MEMBER void end(int) const {}
};

// One block of 16 rows of a panel.
template <QuantFormat kFormat>
NEMO_INLINE void expand_block(const ListedRows& rows, int64_t offset, unsigned char* codes,
                              float* scales) {
    StripReader<ListedRows, StoreSink<kFormat>> in = {rows, {codes, scales}};
    StripFormat<kFormat>::block(in, offset, 0);
}
