// Tiles of float weights and many tokens (float_product.h): the dots of tier_dot_float.inl with
// their lanes in memory between one slice of columns and the next.

template <class Row>
void widen_panel(const FloatPanelJob& job) {
    float* target = job.panel;
    for (int64_t group = 0; group < job.n_rows; group += kFloatGroupRows)
        for (int64_t i = 0; i < job.n_columns; i += 16)
            for (int64_t r = group; r < group + kFloatGroupRows; ++r, target += 16) {
                // Rows past the end repeat the last one: their results are not used.
                const unsigned char* row =
                    job.rows + (r < job.n_rows ? r : job.n_rows - 1) * job.row_bytes;
                const unsigned char* p = row + (job.first_column + i) * Row::kBytes;
                const int64_t n = job.n_columns - i;
                store(target, n >= 16 ? Row::load16(p) : load16_part<Row>(p, n));
            }
}

// The rows and tokens of one register block; pointers to their first vectors.
NEMO_INLINE void multiply_float_block(const float* weights, const float* x, int64_t n_steps,
                                      float* sums_memory) {
    Vec16 sums[kFloatTokens][kFloatRows];
#pragma GCC unroll 8
    for (int t = 0; t < kFloatTokens; ++t)
#pragma GCC unroll 8
        for (int r = 0; r < kFloatRows; ++r)
            sums[t][r] = load(sums_memory + (t * kFloatGroupRows + r) * 16);
    for (int64_t i = 0; i < n_steps; ++i) {
        Vec16 w[kFloatRows];
#pragma GCC unroll 8
        for (int r = 0; r < kFloatRows; ++r) w[r] = load(weights + 16 * r);
#pragma GCC unroll 8
        for (int t = 0; t < kFloatTokens; ++t) {
            const Vec16 activations = load(x + 16 * t);
#pragma GCC unroll 8
            for (int r = 0; r < kFloatRows; ++r) sums[t][r] = fma(w[r], activations, sums[t][r]);
        }
        weights += kFloatGroupRows * 16;
        x += kFloatTileTokens * 16;
    }
#pragma GCC unroll 8
    for (int t = 0; t < kFloatTokens; ++t)
#pragma GCC unroll 8
        for (int r = 0; r < kFloatRows; ++r)
            store(sums_memory + (t * kFloatGroupRows + r) * 16, sums[t][r]);
}

void multiply_float_tile(const FloatTileJob& job) {
    static_assert(kFloatTileTokens % kFloatTokens == 0 && kFloatGroupRows % kFloatRows == 0);
    for (int64_t g = 0; g < job.n_groups; ++g)
        for (int64_t r = 0; r < kFloatGroupRows; r += kFloatRows)
            for (int64_t t = 0; t < kFloatTileTokens; t += kFloatTokens)
                multiply_float_block(
                    job.panel + (g * job.n_steps * kFloatGroupRows + r) * 16, job.x + t * 16,
                    job.n_steps,
                    job.sums + ((g * kFloatTileTokens + t) * kFloatGroupRows + r) * 16);
}

// results [kFloatTileTokens][48]; sums [groups][kFloatTileTokens][kFloatGroupRows][16]
void sum_float_tile(const float* sums, float* results) {
    for (int64_t t = 0; t < kFloatTileTokens; ++t)
        for (int64_t row = 0; row < kFloatPanelRows; row += 16) {
            NativeF parts[16];
#pragma GCC unroll 16
            for (int64_t i = 0; i < 16; ++i) {
                const int64_t g = (row + i) / kFloatGroupRows, r = (row + i) % kFloatGroupRows;
                parts[i] =
                    fold(load(sums + ((g * kFloatTileTokens + t) * kFloatGroupRows + r) * 16));
            }
            store(results + t * kFloatPanelRows + row,
                  generate<16>([&](int lane) { return sums_native(parts + lane); }));
        }
}
