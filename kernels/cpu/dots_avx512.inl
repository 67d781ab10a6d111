// Strips of 16 rows times up to 8 tokens for AVX-512: codes go from the transpose straight into
// vpdpbusd. A lane is a row, so nothing is summed across lanes, and a further token costs only its
// dot products.

// How far ahead of its use a row's stream is fetched into the second-level cache: the 16 streams
// together a little more than what arrives from memory while one access waits for it.
constexpr int64_t kFetchDistance = 448;

// What is fetched while a strip is read: per block of the strip as many bytes of each of 16 rows. A
// few lines at every sub-block, because a burst of fetches holds up the loads behind it.
template <QuantFormat kFormat>
struct StripFetch {
    static constexpr QuantTraits kTraits = quant_traits(kFormat);
    static constexpr int kLine = 64;
    static constexpr int kLines = (kTraits.block_bytes + kLine - 1) / kLine;
    static constexpr int kSubs = kTraits.block_columns / kTraits.sub_columns;
    // Blocks of less than half a line fetch for one half of the rows, then for the other.
    static constexpr int kTurns = 2 * kTraits.block_bytes < kLine ? 2 : 1;
    static constexpr int kRows = kStripRows / (kSubs * kTurns);

    EvenRows rows;  // from where they begin for this block
    int64_t step;   // from block to block
    bool at_second_half = false;

    NEMO_INLINE_MEMBER void fetch(int sub) const {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int line = 0; line < kLines; ++line)
                _mm_prefetch(rows.row(sub * kRows + r) + line * kLine, _MM_HINT_T1);
    }
    NEMO_INLINE_MEMBER void next_block() {
        rows.first += step;
        if constexpr (kTurns == 2) {
            const int64_t half = kStripRows / 2 * rows.stride;
            rows.first += at_second_half ? -half : half;
            at_second_half = !at_second_half;
        }
    }
};

// sums + values * the same four activations in every lane, as one instruction: the compiler loads
// activations apart, so many in advance that it moves sums to the stack.
NEMO_INLINE __m512i dot_with_all(__m512i sums, __m512i values, const int8_t* four) {
    using Four = int8_t[4];
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(sums)
        : "v"(values), "m"(*reinterpret_cast<const Four*>(four)));
    return sums;
}

// A sink for StripReader. All indices are constants once the format's code is inlined, so that the
// arrays are registers.
template <QuantFormat kFormat, int kTokens, bool kNarrow>
struct DotSink {
    static constexpr QuantTraits kTraits = quant_traits(kFormat);

    // Of the block's first column, sub-block and group.
    const int8_t* codes;
    const int32_t* start;
    const float* sum;
    const int32_t* pairs;
    const float* x_scale;
    float* scale;  // memory for those of a block: [sub-blocks][16]
    float* negative_min;
    __m512 d;
    __m512i products[kTokens];
    // With a scale per group. Else sums are in memory [kTokens][16]; for many tokens they have to
    // stay there (end), for lack of registers.
    __m512 sums[kTokens];
    float *group_memory, *sum_memory;
    StripFetch<kFormat> fetch;

    NEMO_INLINE_MEMBER void put_scale(int sub, __m512 values) {
        _mm512_store_ps(scale + 16 * sub, values);
    }
    NEMO_INLINE_MEMBER void put_min(int sub, __m512 values) {
        _mm512_store_ps(negative_min + 16 * sub, values);
    }
    NEMO_INLINE_MEMBER void put_factor(__m512 value) { d = value; }
    NEMO_INLINE_MEMBER void put_scales(int sub, __m512i four) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
            put_scale(sub + j, _mm512_castsi512_ps(kNarrow ? signed_byte_as_word(four, j)
                                                           : signed_byte(four, j)));
    }
    // Of integer scales: the minimums' part of the group.
    NEMO_INLINE_MEMBER void put_mins(const __m512i* min_pairs, __m512 negative_d_min) {
        constexpr int kPairs = kTraits.subs_per_group() / 2;
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int p = 0; p < kPairs; ++p)
                total = _mm512_dpwssd_epi32(total, min_pairs[p],
                                            _mm512_set1_epi32(pairs[p * kTokens + t]));
            _mm512_store_ps(negative_min + 16 * t,
                            _mm512_mul_ps(_mm512_cvtepi32_ps(total), negative_d_min));
        }
    }
    NEMO_INLINE_MEMBER void begin_block() {
        if constexpr (kTraits.has_integer_scales())
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t)
                _mm512_store_si512(group_memory + 16 * t, _mm512_setzero_si512());
    }
    NEMO_INLINE_MEMBER void begin(int sub) {
        fetch.fetch(sub);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t)
            products[t] = kTraits.offset != 0 ? _mm512_set1_epi32(start[sub * kTokens + t])
                                              : _mm512_setzero_si512();
    }
    NEMO_INLINE_MEMBER void put(int vector, __m512i values) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            const int8_t* four = codes + 4 * (vector * kTokens + t);
            if constexpr (kTokens == 8 && kTraits.block_columns == 256)
                products[t] = dot_with_all(products[t], values, four);
            else
                products[t] =
                    _mm512_dpbusd_epi32(products[t], values, _mm512_set1_epi32(load_dword(four)));
        }
    }
    NEMO_INLINE_MEMBER void end(int sub) {
        if constexpr (kTraits.has_integer_scales())
            add_scaled(sub);
        else
            add_group(sub);
        if constexpr (!kTraits.single() && kTokens >= 4) asm volatile("" ::: "memory");
    }
    NEMO_INLINE_MEMBER void add_scaled(int sub) {
        const __m512i s = _mm512_load_si512(scale + 16 * sub);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            float* group = group_memory + 16 * t;
            const __m512i total = _mm512_load_si512(group);
            _mm512_store_si512(
                group, kNarrow ? _mm512_dpwssd_epi32(total, products[t], s)
                               : _mm512_add_epi32(total, _mm512_mullo_epi32(products[t], s)));
        }
    }
    NEMO_INLINE_MEMBER void add_group(int sub) {
        const __m512 s = _mm512_load_ps(scale + 16 * sub);
        constexpr int kPerGroup = kTraits.subs_per_group();
        const int place = sub % kPerGroup;
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            const __m512 product = _mm512_cvtepi32_ps(products[t]);
            const __m512 factor = _mm512_set1_ps(x_scale[sub / kPerGroup * kTokens + t]);
            float* group = group_memory + 16 * t;
            __m512 group_sum = place == 0 ? _mm512_mul_ps(product, s)
                                          : _mm512_fmadd_ps(product, s, _mm512_load_ps(group));
            if constexpr (kTraits.has_min)
                group_sum = _mm512_fmadd_ps(_mm512_set1_ps(sum[sub * kTokens + t]),
                                            _mm512_load_ps(negative_min + 16 * sub), group_sum);
            if constexpr (kTraits.single())
                sums[t] = _mm512_fmadd_ps(factor, group_sum, sums[t]);
            else if (place < kPerGroup - 1)
                _mm512_store_ps(group, group_sum);
            else
                _mm512_store_ps(
                    sum_memory + 16 * t,
                    _mm512_fmadd_ps(factor, group_sum, _mm512_load_ps(sum_memory + 16 * t)));
        }
    }
    NEMO_INLINE_MEMBER void end_block() {
        constexpr int kSubs = kTraits.block_columns / kTraits.sub_columns;
        if constexpr (kTraits.has_integer_scales())
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
                const __m512 total = _mm512_cvtepi32_ps(_mm512_load_si512(group_memory + 16 * t));
                const __m512 group_sum =
                    kTraits.has_min
                        ? _mm512_fmadd_ps(total, d, _mm512_load_ps(negative_min + 16 * t))
                        : _mm512_mul_ps(total, d);
                float* out = sum_memory + 16 * t;
                _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_set1_ps(x_scale[t]), group_sum,
                                                     _mm512_load_ps(out)));
            }
        codes += kTraits.block_columns * kTokens;
        start += kSubs * kTokens;
        sum += kSubs * kTokens;
        pairs += kSubs / 2 * kTokens;
        x_scale += kTraits.block_columns / kTraits.group * kTokens;
        fetch.next_block();
    }
};

// out [kTokens][16] = the rows times the tokens.
template <QuantFormat kFormat, int kTokens, bool kNarrow>
NEMO_INLINE void dot_strip(const StripJob& job, const EvenRows& rows,
                           const StripFetch<kFormat>& fetch, float* out) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    alignas(64) float scale[256], negative_min[256], group[kTokens * kStripRows];
    const ActivationBatch& x = *job.x;
    using Sink = DotSink<kFormat, kTokens, kNarrow>;
    StripReader<EvenRows, Sink> in;
    in.rows = rows;
    in.sink.codes = x.codes;
    in.sink.start = x.start;
    in.sink.sum = x.sum;
    in.sink.pairs = x.pairs;
    in.sink.x_scale = x.scale;
    in.sink.scale = scale;
    in.sink.negative_min = negative_min;
    in.sink.group_memory = group;
    in.sink.sum_memory = out;
    in.sink.fetch = fetch;
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
        in.sink.sums[t] = _mm512_setzero_ps();
        _mm512_store_ps(out + 16 * t, in.sink.sums[t]);
    }
    const int64_t n_blocks = job.n / kTraits.block_columns;
    for (int64_t b = 0; b < n_blocks; ++b) {
        in.sink.begin_block();
        StripFormat<kFormat>::block(in, b * kTraits.block_bytes, 0);
        in.sink.end_block();
    }
    if constexpr (kTraits.single())
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) _mm512_store_ps(out + kStripRows * t, in.sink.sums[t]);
}

template <QuantFormat kFormat, int kTokens, bool kNarrow = false>
void dot_strips_of(const StripJob& job) {
    constexpr int64_t kBlockBytes = quant_traits(kFormat).block_bytes;
    alignas(64) float out[kTokens * kStripRows];
    // Rows first, first + step, ... `next`: the row from where on is read next, or -1 for the
    // bytes that follow in the rows themselves.
    const auto strip = [&](int64_t first, int64_t step, int64_t n_rows, int64_t next) {
        const EvenRows rows = {job.rows + first * job.row_bytes,
                               n_rows == kStripRows ? step * job.row_bytes : 0};
        const StripFetch<kFormat> fetch =
            next < 0 ? StripFetch<kFormat>{{rows.first + kFetchDistance, rows.stride}, kBlockBytes}
                     : StripFetch<kFormat>{{job.rows + next * job.row_bytes, kBlockBytes},
                                           kStripRows * kBlockBytes};
        dot_strip<kFormat, kTokens, kNarrow>(job, rows, fetch, out);
        for (int64_t t = 0; t < job.x->n_tokens; ++t)
            for (int64_t i = 0; i < n_rows; ++i)
                job.tile[t * job.tile_stride + first + i * step] = out[t * kStripRows + i];
    };
    const int64_t n_strips = job.n_rows / kStripRows;
    for (int64_t i = 0; i < n_strips; ++i)
        if (job.fetches_ahead)
            strip(i * kStripRows, 1, kStripRows, (i + 1) * kStripRows);
        else
            strip(i, n_strips, kStripRows, -1);
    // The rest: a strip that begins early enough to be whole, or row by row.
    if (job.n_rows % kStripRows == 0) return;
    if (job.n_rows > kStripRows) return strip(job.n_rows - kStripRows, 1, kStripRows, -1);
    for (int64_t r = 0; r < job.n_rows; ++r) strip(r, 1, 1, -1);
}

template <QuantFormat kFormat, int kTokens>
void dot_strips_for(const StripJob& job) {
    if constexpr (quant_traits(kFormat).has_integer_scales())
        if (job.x->narrow) return dot_strips_of<kFormat, kTokens, true>(job);
    dot_strips_of<kFormat, kTokens>(job);
}

template <QuantFormat kFormat>
void dot_strips(const StripJob& job) {
    switch (job.x->width) {
        case 1:
            return dot_strips_for<kFormat, 1>(job);
        case 2:
            return dot_strips_for<kFormat, 2>(job);
        case 4:
            return dot_strips_for<kFormat, 4>(job);
        default:
            return dot_strips_for<kFormat, 8>(job);
    }
}
