// The formats with blocks of 256 for strip_avx512.inl: sub-block scales are small integers under an
// fp16 scale.

// Pairs (word_pair) of four minimums per lane.
NEMO_INLINE void min_pairs(__m512i bytes, __m512i* pairs) {
    const __m512i even = _mm512_set1_epi32(0x00ff00ff);
    pairs[0] = _mm512_and_si512(bytes, even);
    pairs[1] = _mm512_and_si512(_mm512_srli_epi32(bytes, 8), even);
}

// d and d_min of a header's first dword, then eight 6-bit scales and eight 6-bit minimums in the
// next three.
template <class Reader>
NEMO_INLINE void put_six_bit_scales(Reader& in, const __m512i* head) {
    const __m512 d = half_to_float(head[0]);
    const __m512 d_min = half_to_float(_mm512_srli_epi32(head[0], 16));
    const auto high = [](__m512i low4, __m512i top2) __attribute__((always_inline)) {
        return merge(low_nibbles(low4), _mm512_srli_epi32(top2, 2), bytes_of(0x30));
    };
    const __m512i six = bytes_of(63);
    in.sink.put_factor(d);
    in.sink.put_scales(0, _mm512_and_si512(head[1], six));
    in.sink.put_scales(4, high(head[3], head[1]));
    __m512i pairs[4];
    min_pairs(_mm512_and_si512(head[2], six), pairs);
    min_pairs(high(_mm512_srli_epi32(head[3], 4), head[2]), pairs + 2);
    in.sink.put_mins(pairs, negative(d_min));
}

template <>
struct StripFormat<QuantFormat::q4_k> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i head[4];
        in.load16(p, head);
        put_six_bit_scales(in, head);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
            __m512i q[8];
            in.load16(p + 16 + 32 * pair, q);
            in.load16(p + 32 + 32 * pair, q + 4);
            in.sink.begin(2 * pair);
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) in.sink.put(16 * pair + i, low_nibbles(q[i]));
            in.sink.end(2 * pair);
            in.sink.begin(2 * pair + 1);
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) in.sink.put(16 * pair + 8 + i, high_nibbles(q[i]));
            in.sink.end(2 * pair + 1);
        }
    }
};

template <>
struct StripFormat<QuantFormat::q5_k> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i head[4], high[8];
        in.load16(p, head);
        put_six_bit_scales(in, head);
        in.load16(p + 16, high);
        in.load16(p + 32, high + 4);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
            __m512i q[8];
            in.load16(p + 48 + 32 * pair, q);
            in.load16(p + 64 + 32 * pair, q + 4);
            // Bit 2 * pair is the fifth one of the low nibbles, the next that of the high ones.
            in.sink.begin(2 * pair);
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i)
                in.sink.put(16 * pair + i, merge(low_nibbles(q[i]),
                                                 shift_right(high[i], 2 * pair - 4), bytes_of(16)));
            in.sink.end(2 * pair);
            in.sink.begin(2 * pair + 1);
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i)
                in.sink.put(
                    16 * pair + 8 + i,
                    merge(high_nibbles(q[i]), shift_right(high[i], 2 * pair - 3), bytes_of(16)));
            in.sink.end(2 * pair + 1);
        }
    }
};

template <>
struct StripFormat<QuantFormat::q6_k> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i tail[4], scales[4];
        in.load16(p + 194, tail);
        in.load16(p + 192, scales);
        in.sink.put_factor(half_to_float(_mm512_srli_epi32(tail[3], 16)));
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) in.sink.put_scales(4 * j, scales[j]);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half)
#pragma GCC unroll 2
            for (int odd = 0; odd < 2; ++odd) {
                __m512i high[4];
                in.load16(p + 128 + 32 * half + 16 * odd, high);
#pragma GCC unroll 2
                for (int quarter = 0; quarter < 2; ++quarter) {
                    __m512i q[4];
                    in.load16(p + 64 * half + 32 * quarter + 16 * odd, q);
                    const int sub = 8 * half + 2 * quarter + odd;
                    in.sink.begin(sub);
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i)
                        in.sink.put(4 * sub + i,
                                    merge(low_nibbles(q[i]), shift_right(high[i], 2 * quarter - 4),
                                          bytes_of(0x30)));
                    in.sink.end(sub);
                    in.sink.begin(sub + 4);
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i)
                        in.sink.put(4 * sub + 16 + i,
                                    merge(high_nibbles(q[i]), shift_right(high[i], 2 * quarter),
                                          bytes_of(0x30)));
                    in.sink.end(sub + 4);
                }
            }
    }
};

// Two-bit codes of Q2_K and Q3_K: 32 columns in each bit pair of 32 bytes.
template <class Reader, class Resolve>
NEMO_INLINE void put_bit_pairs(Reader& in, int64_t offset, Resolve resolve) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; ++odd) {
            __m512i q[4];
            in.load16(offset + 32 * half + 16 * odd, q);
#pragma GCC unroll 4
            for (int pair = 0; pair < 4; ++pair) {
                const int sub = 8 * half + 2 * pair + odd;
                in.sink.begin(sub);
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
                    const __m512i codes =
                        _mm512_and_si512(shift_right(q[i], 2 * pair), bytes_of(3));
                    in.sink.put(4 * sub + i, resolve(codes, 4 * half + pair, 4 * odd + i));
                }
                in.sink.end(sub);
            }
        }
}

template <>
struct StripFormat<QuantFormat::q2_k> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i scales[4], tail[4];
        in.load16(p, scales);
        in.load16(p + 68, tail);
        in.sink.put_factor(half_to_float(tail[3]));
        __m512i pairs[8];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            in.sink.put_scales(4 * j, low_nibbles(scales[j]));
            min_pairs(high_nibbles(scales[j]), pairs + 2 * j);
        }
        in.sink.put_mins(pairs, negative(half_to_float(_mm512_srli_epi32(tail[3], 16))));
        put_bit_pairs(
            in, p + 16,
            [](__m512i codes, int, int) __attribute__((always_inline)) { return codes; });
    }
};

template <>
struct StripFormat<QuantFormat::q3_k> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i tail[4], high[8], packed[3];
        in.load16(p + 94, tail);  // two bytes of codes, 12 of scales, d
        for (int i = 0; i < 3; ++i)
            packed[i] =
                _mm512_or_si512(_mm512_srli_epi32(tail[i], 16), _mm512_slli_epi32(tail[i + 1], 16));
        in.sink.put_factor(half_to_float(_mm512_srli_epi32(tail[3], 16)));
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const __m512i low = shift_right(packed[j % 2], j < 2 ? 0 : 4);
            const __m512i top = shift_right(packed[2], 2 * j - 4);
            const __m512i scales = merge(low_nibbles(low), top, bytes_of(0x30));
            in.sink.put_scales(4 * j, _mm512_sub_epi8(scales, bytes_of(32)));
        }
        in.load16(p, high);
        in.load16(p + 16, high + 4);
        put_bit_pairs(
            in, p + 32, [&](__m512i codes, int bit, int i) __attribute__((always_inline)) {
                // The mask's bit adds 4.
                return merge(codes, shift_right(high[i], bit - 2), bytes_of(4));
            });
    }
};

template <>
struct StripFormat<QuantFormat::iq4_xs> {
    template <class Reader>
    static NEMO_INLINE_MEMBER void block(Reader& in, int64_t p, int) {
        __m512i head[4];
        in.load16(p, head);
        const __m512 d = half_to_float(head[0]);
        const __m512i high = _mm512_srli_epi32(head[0], 16);
        const __m512 center = _mm512_set1_ps(32.0f);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
            __m512i q[8];
            in.load32(p + 8 + 32 * pair, q);
#pragma GCC unroll 2
            for (int j = 2 * pair; j < 2 * pair + 2; ++j) {
                const __m512i low =
                    _mm512_and_si512(shift_right(head[1], 4 * j), _mm512_set1_epi32(15));
                const __m512i scale =
                    merge(low, shift_right(high, 2 * j - 4), _mm512_set1_epi32(0x30));
                in.sink.put_scale(
                    j, _mm512_mul_ps(d, _mm512_sub_ps(_mm512_cvtepi32_ps(scale), center)));
                put_nibbles(
                    in, q + 4 * (j % 2), 8 * j,
                    [](__m512i codes, int) __attribute__((always_inline)) {
                        return _mm512_shuffle_epi8(iq4_table(), codes);
                    });
            }
        }
    }
};
