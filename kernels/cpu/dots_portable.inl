// Strips of 16 rows times up to 8 tokens for tiers without AVX-512: a strip is unpacked, then meets
// the tokens kStripTokens at a time. Same order of additions as dots_avx512.inl.

// The sums of a sub-block's products, that of tokens [t, t + kTokens).
template <QuantFormat kFormat, int kTokens>
NEMO_INLINE void dot_sub_block(const unsigned char* codes, const ActivationBatch& x, int64_t sub,
                               int t, IntVec<16>* sums) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSub = kTraits.sub_columns;
#pragma GCC unroll 8
    for (int i = 0; i < kTokens; ++i)
        sums[i] = splat_int<16>(kTraits.offset != 0 ? x.start[sub * x.width + t + i] : 0);
    for (int c = 0; c < kSub; c += 4) {
        const auto weights = load_codes<16>(codes + c * kStripRows);
        const int8_t* tokens = x.codes + (sub * kSub + c) * x.width + 4 * t;
#pragma GCC unroll 8
        for (int i = 0; i < kTokens; ++i)
            sums[i] = dot<kTraits.has_small_codes()>(sums[i], weights, load_dword(tokens + 4 * i));
    }
}

// out [width][16] += block number b of the strip times the tokens [t, t + kTokens) of x.
template <QuantFormat kFormat, int kTokens>
NEMO_INLINE void dot_block(const UnpackedBlock<kFormat>& block, const ActivationBatch& x, int64_t b,
                           int t, float* out) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSub = kTraits.sub_columns, kSubs = kTraits.block_columns / kSub;
    constexpr int kPerGroup = kTraits.subs_per_group();
    const int64_t width = x.width;
    IntVec<16> products[kTokens];
    const auto add_group = [&](int64_t group, int i, const Vec16& value) {
        float* sums = out + (t + i) * kStripRows;
        store(sums, fma(splat(x.scale[group * width + t + i]), value, load(sums)));
    };
    if constexpr (kTraits.has_integer_scales()) {
        IntVec<16> sums[kTokens], min_sums[kTokens];
#pragma GCC unroll 8
        for (int i = 0; i < kTokens; ++i) sums[i] = min_sums[i] = splat_int<16>(0);
        for (int j = 0; j < kSubs; ++j) {
            dot_sub_block<kFormat, kTokens>(block.codes + j * kSub * kStripRows, x, b * kSubs + j,
                                            t, products);
            const auto scale = load_ints<16>(block.scale + j * kStripRows);
#pragma GCC unroll 8
            for (int i = 0; i < kTokens; ++i) sums[i] = multiply_add(products[i], scale, sums[i]);
            if constexpr (kTraits.has_min) {
                const int64_t sub = b * kSubs + j;
                const auto min = load_ints<16>(block.min + j * kStripRows);
#pragma GCC unroll 8
                for (int i = 0; i < kTokens; ++i)
                    min_sums[i] = multiply_add(
                        splat_int<16>(static_cast<int32_t>(x.sum[sub * width + t + i])), min,
                        min_sums[i]);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < kTokens; ++i)
            add_group(b, i,
                      scaled_group<kTraits.has_min>(sums[i], min_sums[i], block.factors,
                                                    block.factors + kStripRows));
    } else {
        Vec16 group_sums[kTokens];
        for (int j = 0; j < kSubs; ++j) {
            const int64_t sub = b * kSubs + j;
            dot_sub_block<kFormat, kTokens>(block.codes + j * kSub * kStripRows, x, sub, t,
                                            products);
            const Vec16 scale = load(block.scale + j * kStripRows);
#pragma GCC unroll 8
            for (int i = 0; i < kTokens; ++i) {
                const Vec16 product = to_float(products[i]);
                group_sums[i] =
                    j % kPerGroup == 0 ? product * scale : fma(product, scale, group_sums[i]);
                if constexpr (kTraits.has_min)
                    group_sums[i] = fma(splat(x.sum[sub * width + t + i]),
                                        load(block.min + j * kStripRows), group_sums[i]);
                if (j % kPerGroup == kPerGroup - 1) add_group(sub / kPerGroup, i, group_sums[i]);
            }
        }
    }
}

template <QuantFormat kFormat>
void dot_strips(const StripJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int64_t kBlockBytes = kStripRows * kTraits.block_bytes;  // of all rows
    const ActivationBatch& x = *job.x;
    UnpackedBlock<kFormat> block;
    // Rows first, first + step, ...; `ahead`: as many bytes that come next, or null.
    const auto strip = [&](int64_t first, int64_t step, int64_t n_rows,
                           const unsigned char* ahead) {
        const ListedRows rows =
            listed_rows(job.rows + first * job.row_bytes, step * job.row_bytes, n_rows);
        alignas(64) float out[kMostBatchTokens * kStripRows] = {};
        for (int64_t b = 0; b < job.n / kTraits.block_columns; ++b) {
            if (ahead != nullptr)
                for (int64_t i = 0; i < kBlockBytes; i += 64)
                    __builtin_prefetch(ahead + b * kBlockBytes + i, 0, 2);
            read_block<kFormat>(rows, b * kTraits.block_bytes, block);
            int t = 0;
            for (; t + kStripTokens <= x.width; t += kStripTokens)
                dot_block<kFormat, kStripTokens>(block, x, b, t, out);
            for (; t < x.width; ++t) dot_block<kFormat, 1>(block, x, b, t, out);
        }
        for (int64_t t = 0; t < x.n_tokens; ++t)
            for (int64_t i = 0; i < n_rows; ++i)
                job.tile[t * job.tile_stride + first + i * step] = out[t * kStripRows + i];
    };
    const int64_t n_strips = job.n_rows / kStripRows, n_rest = job.n_rows % kStripRows;
    for (int64_t i = 0; i < n_strips; ++i) {
        const int64_t next = (i + 1) * kStripRows;
        if (!job.fetches_ahead)
            strip(i, n_strips, kStripRows, nullptr);
        else
            strip(i * kStripRows, 1, kStripRows,
                  i + 1 < n_strips ? job.rows + next * job.row_bytes : nullptr);
    }
    if (n_rest != 0) strip(n_strips * kStripRows, 1, n_rest, nullptr);
}
