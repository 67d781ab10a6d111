// The tile of 64 rows x 6 tokens for tiers without vpdpbusd on 512 bits: 16 rows x kTileTokens at a
// time.

// c [kTileTokens][64] += a group of the rows v ... v+15 times the tokens t, ...; `scales`, `info`:
// those of the first of them.
template <QuantFormat kFormat>
NEMO_INLINE void multiply_group(const unsigned char* panel, const float* scales, const int8_t* x,
                                const float* info, float* c) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr bool kIntegers = kTraits.has_integer_scales(), kHasMin = kTraits.has_min;
    const auto next = [](const float*& rows, int width) {
        const float* row = rows;
        rows += width;
        return row;
    };
    const auto info_bits = [](const float* row, int i) {
        int32_t bits;
        __builtin_memcpy(&bits, row + i, sizeof bits);
        return bits;
    };
    Vec16 group_sums[kTileTokens];
    IntVec<16> int_sums[kTileTokens], min_sums[kTileTokens];
#pragma GCC unroll 8
    for (int i = 0; i < kTileTokens; ++i) int_sums[i] = min_sums[i] = splat_int<16>(0);
    for (int j = 0; j < kTraits.subs_per_group(); ++j) {
        IntVec<16> sums[kTileTokens];
        const float* start = kIntegers && kHasMin ? nullptr : next(info, kTileWidth);
#pragma GCC unroll 8
        for (int i = 0; i < kTileTokens; ++i)
            sums[i] = splat_int<16>(
                start == nullptr ? 0
                                 : info_bits(start, i) - (kTraits.is_biased() ? kSumBiasBits : 0));
        for (int k = 0; k < kTraits.sub_columns; k += 4) {
            const auto weights = load_codes<16>(panel);
#pragma GCC unroll 8
            for (int i = 0; i < kTileTokens; ++i)
                sums[i] = dot<kTraits.has_small_codes()>(sums[i], weights, load_dword(x + 4 * i));
            panel += kPanelRows * 4;
            x += kTileWidth * 4;
        }
        const float* scale = next(scales, kPanelRows);
        if constexpr (kIntegers) {
#pragma GCC unroll 8
            for (int i = 0; i < kTileTokens; ++i)
                int_sums[i] = multiply_add(sums[i], load_ints<16>(scale), int_sums[i]);
        } else {
            if constexpr (kTraits.is_biased()) next(scales, kPanelRows);
            const float* min = kHasMin ? next(scales, kPanelRows) : nullptr;
            const float* x_sums = kHasMin ? next(info, kTileWidth) : nullptr;
#pragma GCC unroll 8
            for (int i = 0; i < kTileTokens; ++i) {
                const Vec16 sum = to_float(sums[i]);
                group_sums[i] = j == 0 ? sum * load(scale) : fma(sum, load(scale), group_sums[i]);
                if constexpr (kHasMin)
                    group_sums[i] = fma(splat(x_sums[i]), load(min), group_sums[i]);
            }
        }
    }
    if constexpr (kIntegers) {
        if constexpr (kHasMin)
            for (int p = 0; p < kTraits.subs_per_group() / 2; ++p) {
                const auto pairs = load_ints<16>(next(scales, kPanelRows));
                const float* x_pairs = next(info, kTileWidth);
#pragma GCC unroll 8
                for (int i = 0; i < kTileTokens; ++i)
                    min_sums[i] = dot_pairs(min_sums[i], pairs, info_bits(x_pairs, i));
            }
#pragma GCC unroll 8
        for (int i = 0; i < kTileTokens; ++i)
            group_sums[i] =
                scaled_group<kHasMin>(int_sums[i], min_sums[i], scales, scales + kPanelRows);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kTileTokens; ++i, c += kPanelRows)
        store(c, fma(splat(info[i]), group_sums[i], load(c)));
}

template <QuantFormat kFormat>
void multiply_tile(const TileJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int64_t kGroup = kTraits.group;
    constexpr int64_t kScales = kTraits.panel_rows_per_group() * kPanelRows;
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

void weave_codes(const WeaveJob& job) {
    for (int64_t t = 0; t < kTileWidth; ++t)
        for (int64_t i = 0; i < job.n_columns; i += 4)
            __builtin_memcpy(job.tile + i * kTileWidth + 4 * t, job.codes + t * kSliceColumns + i,
                             4);
}
