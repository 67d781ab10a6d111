// Strips of 16 rows times up to 8 tokens for tiers without AVX-512: a strip is unpacked, then meets
// the tokens kStripTokens at a time. Same order of additions as dots_avx512.inl.

// out [width][16] += block number b of the strip times the tokens [t, t + kTokens) of x.
template <QuantFormat kFormat, int kTokens>
NEMO_INLINE void dot_block(const UnpackedBlock& block, const ActivationBatch& x, int64_t b, int t,
                           float* out) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSub = kTraits.sub_columns, kSubs = kTraits.block_columns / kSub;
    constexpr int kPerGroup = kTraits.subs_per_group();
    const int64_t width = x.width;
    Vec16 group_sums[kTokens];
    for (int j = 0; j < kSubs; ++j) {
        const int order = summation_order(kFormat, j);
        const int64_t sub = b * kSubs + order;
        IntVec<16> products[kTokens];
        for (int i = 0; i < kTokens; ++i)
            products[i] = splat_int<16>(kTraits.offset != 0 ? x.start[sub * width + t + i] : 0);
        for (int c = 0; c < kSub; c += 4) {
            const auto weights = load_codes<16>(block.codes + (order * kSub + c) * kStripRows);
            const int8_t* codes = x.codes + (sub * kSub + c) * width + 4 * t;
            for (int i = 0; i < kTokens; ++i)
                products[i] = dot(products[i], weights, load_dword(codes + 4 * i));
        }
        const Vec16 scale = load(block.scale + order * kStripRows);
        for (int i = 0; i < kTokens; ++i) {
            const Vec16 product = to_float(products[i]);
            group_sums[i] =
                j % kPerGroup == 0 ? product * scale : fma(product, scale, group_sums[i]);
            if constexpr (kTraits.has_min)
                group_sums[i] = fma(splat(x.sum[sub * width + t + i]),
                                    load(block.negative_min + order * kStripRows), group_sums[i]);
            if (j % kPerGroup < kPerGroup - 1) continue;
            const int64_t group = sub * kSub / kTraits.group;
            float* sums = out + (t + i) * kStripRows;
            store(sums, fma(splat(x.scale[group * width + t + i]), group_sums[i], load(sums)));
        }
    }
}

template <QuantFormat kFormat>
void dot_strips(const StripJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    const ActivationBatch& x = *job.x;
    UnpackedBlock block;
    for (int64_t r = 0; r < job.n_rows; r += kStripRows) {
        const int64_t n_rows = job.n_rows - r < kStripRows ? job.n_rows - r : kStripRows;
        const ListedRows rows = listed_rows(job.rows + r * job.row_bytes, job.row_bytes, n_rows);
        alignas(64) float out[kMostBatchTokens * kStripRows] = {};
        for (int64_t b = 0; b < job.n / kTraits.block_columns; ++b) {
            read_block<kFormat>(rows, b * kTraits.block_bytes, block);
            int t = 0;
            for (; t + kStripTokens <= x.width; t += kStripTokens)
                dot_block<kFormat, kStripTokens>(block, x, b, t, out);
            for (; t < x.width; ++t) dot_block<kFormat, 1>(block, x, b, t, out);
        }
        for (int64_t t = 0; t < x.n_tokens; ++t)
            for (int64_t i = 0; i < n_rows; ++i)
                job.tile[t * job.tile_stride + r + i] = out[t * kStripRows + i];
    }
}
