// Dot products of rows of F32, F16 or BF16 with fp32 activations. A block of rows meets a block of
// tokens in registers, so that every loaded value is used several times; each (row, token) has its
// own 16 lanes and is summed in the same order whatever block it is in.

struct F32Row {
    static constexpr int64_t kBytes = 4;
    static NEMO_INLINE_MEMBER Vec16 load16(const unsigned char* p) {
        return load(reinterpret_cast<const float*>(p));
    }
};

struct F16Row {
    static constexpr int64_t kBytes = 2;
    static NEMO_INLINE_MEMBER Vec16 load16(const unsigned char* p) {
        return generate<16>([p](int lane) { return load_f16_native(p + 2 * lane); });
    }
};

struct Bf16Row {
    static constexpr int64_t kBytes = 2;
    static NEMO_INLINE_MEMBER Vec16 load16(const unsigned char* p) {
        return generate<16>([p](int lane) { return load_bf16_native(p + 2 * lane); });
    }
};

template <class Row>
NEMO_INLINE Vec16 load16_part(const unsigned char* p, int64_t count) {
    unsigned char padded[16 * Row::kBytes] = {};
    for (int64_t i = 0; i < count * Row::kBytes; ++i) padded[i] = p[i];
    return Row::load16(padded);
}

// How far ahead of its use a row is fetched into the second-level cache: the processor's prefetchers
// alone leave a sixth of the memory's speed. The first tokens of a call fetch for the others.
constexpr int64_t kFloatFetchDistance = 1536;

// Rows first_row, first_row + row_step, ...
template <class Row, int kRows, int kTokens>
NEMO_INLINE void dot_float_block(const DotJob& job, int64_t first_row, int64_t row_step,
                                 int64_t first_token) {
    const unsigned char* rows[kRows];
    const float* x[kTokens];
    for (int r = 0; r < kRows; ++r) rows[r] = job.rows + (first_row + r * row_step) * job.row_bytes;
    for (int t = 0; t < kTokens; ++t) x[t] = job.x[first_token + t];

    Vec16 sums[kRows][kTokens];
    for (int r = 0; r < kRows; ++r)
        for (int t = 0; t < kTokens; ++t) sums[r][t] = splat(0.0f);

    int64_t i = 0;
    for (; i + 16 <= job.n; i += 16) {
        Vec16 weights[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            weights[r] = Row::load16(rows[r] + i * Row::kBytes);
            if (i * Row::kBytes % 64 == 0 && first_token == 0)
                __builtin_prefetch(rows[r] + i * Row::kBytes + kFloatFetchDistance, 0, 2);
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            const Vec16 activations = load(x[t] + i);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) sums[r][t] = fma(weights[r], activations, sums[r][t]);
        }
    }
    if (i < job.n) {
        for (int t = 0; t < kTokens; ++t) {
            const Vec16 activations = load_part(x[t] + i, job.n - i);
            for (int r = 0; r < kRows; ++r)
                sums[r][t] = fma(load16_part<Row>(rows[r] + i * Row::kBytes, job.n - i),
                                 activations, sums[r][t]);
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int t = 0; t < kTokens; ++t)
            job.tile[(first_token + t) * job.tile_stride + first_row + r * row_step] =
                sum(sums[r][t]);
}

// The last n_tokens < kTokens of the job in one block.
template <class Row, int kRows, int kTokens>
NEMO_INLINE void dot_float_rest(const DotJob& job, int64_t row, int64_t row_step,
                                int64_t n_tokens) {
    if constexpr (kTokens > 1) {
        if (n_tokens == kTokens - 1)
            dot_float_block<Row, kRows, kTokens - 1>(job, row, row_step, job.n_tokens - n_tokens);
        else
            dot_float_rest<Row, kRows, kTokens - 1>(job, row, row_step, n_tokens);
    }
}

template <class Row, int kRows>
NEMO_INLINE void dot_float_rows(const DotJob& job, int64_t row, int64_t row_step) {
    int64_t t = 0;
    for (; t + kFloatTokens <= job.n_tokens; t += kFloatTokens)
        dot_float_block<Row, kRows, kFloatTokens>(job, row, row_step, t);
    dot_float_rest<Row, kRows, kFloatTokens>(job, row, row_step, job.n_tokens - t);
}

template <class Row>
void dot_float(const DotJob& job) {
    const int64_t n_blocks = job.n_rows / kFloatRows;
    for (int64_t row = 0; row < n_blocks; ++row)
        dot_float_rows<Row, kFloatRows>(job, row, n_blocks);
    for (int64_t row = n_blocks * kFloatRows; row < job.n_rows; ++row)
        dot_float_rows<Row, 1>(job, row, 1);
}
