// Dot products of Q8_0 and Q4_0 rows with int8 activations, two blocks of 32 at a time. The integer
// part is exact; its lanes are then scaled and summed as floats, always in the order of the blocks.
//
// A tier file defines per format a weight pair W with
//   W::kBlockBytes
//   W::load(const unsigned char* blocks, bool has_second): two blocks, or one and zeros
//   lanes(const ActivationPair&): 16 sums of 4 products, as floats
//   scale: the blocks' scales over the lanes, as in ActivationPair.

template <class W, int kRows, int kTokens>
NEMO_INLINE void dot_int8_block(const DotJob& job, int64_t first_row, int64_t first_token) {
    const unsigned char* rows[kRows];
    const ActivationPair* x[kTokens];
    for (int r = 0; r < kRows; ++r) rows[r] = job.rows + (first_row + r) * job.row_bytes;
    for (int t = 0; t < kTokens; ++t)
        x[t] = static_cast<const ActivationPair*>(job.x[first_token + t]);

    Vec16 sums[kRows][kTokens];
    for (int r = 0; r < kRows; ++r)
        for (int t = 0; t < kTokens; ++t) sums[r][t] = splat(0.0f);

    const auto add_pair = [&](int64_t pair, bool has_second) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            const W weights = W::load(rows[r] + pair * 2 * W::kBlockBytes, has_second);
#pragma GCC unroll 4
            for (int t = 0; t < kTokens; ++t) {
                const ActivationPair& activations = x[t][pair];
                sums[r][t] = fma(weights.lanes(activations),
                                 weights.scale * load(activations.scale), sums[r][t]);
            }
        }
    };
    const int64_t n_whole_pairs = job.n / 64;
    for (int64_t pair = 0; pair < n_whole_pairs; ++pair) add_pair(pair, true);
    if (job.n % 64 != 0) add_pair(n_whole_pairs, false);

    for (int r = 0; r < kRows; ++r)
        for (int t = 0; t < kTokens; ++t)
            job.tile[(first_token + t) * job.tile_stride + first_row + r] = sum(sums[r][t]);
}

template <class W, int kRows>
NEMO_INLINE void dot_int8_rows(const DotJob& job, int64_t row) {
    int64_t t = 0;
    for (; t + kInt8Tokens <= job.n_tokens; t += kInt8Tokens)
        dot_int8_block<W, kRows, kInt8Tokens>(job, row, t);
    for (; t < job.n_tokens; ++t) dot_int8_block<W, kRows, 1>(job, row, t);
}

template <class W>
void dot_int8(const DotJob& job) {
    int64_t row = 0;
    for (; row + kInt8Rows <= job.n_rows; row += kInt8Rows) dot_int8_rows<W, kInt8Rows>(job, row);
    for (; row < job.n_rows; ++row) dot_int8_rows<W, 1>(job, row);
}
