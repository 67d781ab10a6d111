// The tile of 64 rows x 6 tokens for tiers without vpdpbusd on 512 bits: 16 rows x kTileTokens at a
// time.

NEMO_INLINE void multiply_part(const TileJob& job, int64_t group, int64_t v, int64_t t) {
    const int64_t first = group * job.group_columns;
    const unsigned char* panel = job.panel + first * kPanelRows + v * 4;
    const int8_t* x = job.x + first * kTileWidth + t * 4;
    const TileGroup& info = job.groups[group];
    IntVec<16> sums[kTileTokens];
    for (int i = 0; i < kTileTokens; ++i) sums[i] = splat_int<16>(info.start[t + i]);
    for (int64_t k = 0; k < job.group_columns; k += 4) {
        const auto weights = load_codes<16>(panel + k * kPanelRows);
#pragma GCC unroll 4
        for (int i = 0; i < kTileTokens; ++i)
            sums[i] = dot(sums[i], weights, load_dword(x + k * kTileWidth + 4 * i));
    }
    const Vec16 scale = load(job.scales + group * kPanelRows + v);
    for (int i = 0; i < kTileTokens; ++i) {
        float* c = job.c + (t + i) * kPanelRows + v;
        store(c, fma(to_float(sums[i]), scale * splat(info.scale[t + i]), load(c)));
    }
}

void multiply_tile(const TileJob& job) {
    static_assert(kTileWidth % kTileTokens == 0);
    for (int64_t group = 0; group < job.n_groups; ++group)
        for (int64_t v = 0; v < kPanelRows; v += kStripRows)
            for (int64_t t = 0; t < kTileWidth; t += kTileTokens) multiply_part(job, group, v, t);
}
