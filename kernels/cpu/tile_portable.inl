// The tile of 64 rows x 6 tokens for tiers without vpdpbusd on 512 bits: 16 rows x kTileTokens at a
// time.

// `scales`: those of the group's rows v ... v+15; `info`: of the group's tokens t, ...
template <QuantFormat kFormat>
NEMO_INLINE void multiply_group(const unsigned char* panel, const float* scales, const int8_t* x,
                                const float* info, float* c) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kInfo = (1 + kTraits.has_min) * kTileWidth;
    Vec16 group_sums[kTileTokens];
    for (int j = 0; j < kTraits.subs_per_group(); ++j, info += kInfo) {
        IntVec<16> sums[kTileTokens];
        for (int i = 0; i < kTileTokens; ++i) {
            int32_t start;
            __builtin_memcpy(&start, info + i, sizeof start);
            sums[i] = splat_int<16>(kTraits.single() ? start - kSumBiasBits : start);
        }
        for (int k = 0; k < kTraits.sub_columns; k += 4) {
            const auto weights = load_codes<16>(panel);
#pragma GCC unroll 4
            for (int i = 0; i < kTileTokens; ++i)
                sums[i] = dot(sums[i], weights, load_dword(x + 4 * i));
            panel += kPanelRows * 4;
            x += kTileWidth * 4;
        }
        for (int i = 0; i < kTileTokens; ++i) {
            const Vec16 sum = to_float(sums[i]), scale = load(scales);
            group_sums[i] = j == 0 ? sum * scale : fma(sum, scale, group_sums[i]);
            if constexpr (kTraits.has_min)
                group_sums[i] = fma(splat(info[kTileWidth + i]),
                                    load(scales + (kTraits.panel_rows_per_sub() - 1) * kPanelRows),
                                    group_sums[i]);
        }
        scales += kTraits.panel_rows_per_sub() * kPanelRows;
    }
    for (int i = 0; i < kTileTokens; ++i, c += kPanelRows)
        store(c, fma(splat(info[i]), group_sums[i], load(c)));
}

template <QuantFormat kFormat>
void multiply_tile(const TileJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int64_t kGroup = kTraits.group;
    constexpr int64_t kScales =
        kTraits.subs_per_group() * kTraits.panel_rows_per_sub() * kPanelRows;
    constexpr int64_t kInfo = kTraits.info_rows_per_group() * kTileWidth;
    static_assert(kTileWidth % kTileTokens == 0);
    for (int64_t g = 0; g < job.n_groups; ++g)
        for (int64_t v = 0; v < kPanelRows; v += kStripRows)
            for (int64_t t = 0; t < kTileWidth; t += kTileTokens)
                multiply_group<kFormat>(job.panel + g * kGroup * kPanelRows + v * 4,
                                        job.scales + g * kScales + v,
                                        job.x + g * kGroup * kTileWidth + t * 4,
                                        job.info + g * kInfo + t, job.c + t * kPanelRows + v);
}
