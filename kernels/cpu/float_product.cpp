#include "kernels/cpu/float_product.h"

#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstring>

namespace nemo {

namespace {

// Tokens that meet a panel before it is widened again. Their activations for the columns of a slice
// and their sums of 48 rows take 1.3 MB, two thirds of a second-level cache.
constexpr int64_t kMostTokens = 43 * kFloatTileTokens;
// Groups of rows that meet a tile of tokens one after the other: they and the tile's activations
// take 36 KB of the first-level cache.
constexpr int64_t kGroupsTogether = 3;

constexpr int64_t kGroups = kFloatPanelRows / kFloatGroupRows;
constexpr int64_t kGroupSums = kFloatTileTokens * kFloatGroupRows * 16;

int64_t n_steps_of(int64_t n_columns) {
    return (n_columns + 15) / 16;
}

}  // namespace

void FloatProduct::pack(ThreadPool& pool, const float* x, int64_t n, int64_t n_tokens) {
    const int64_t n_tiles = (n_tokens + kFloatTileTokens - 1) / kFloatTileTokens;
    const int64_t n_steps = n_steps_of(n), slice_steps = kFloatSliceColumns / 16;
    float* packed = packed_.get(n_tiles * n_steps * kFloatTileTokens * 16);
    pool.parallel_for(n_tiles, 1, [&](int64_t tile, int64_t, int) {
        for (int64_t lane = 0; lane < kFloatTileTokens; ++lane) {
            // The last tile's missing tokens repeat the last one; their results are not used.
            const int64_t token = std::min(tile * kFloatTileTokens + lane, n_tokens - 1);
            for (int64_t step = 0; step < n_steps; ++step) {
                const int64_t first = step / slice_steps * slice_steps;
                const int64_t steps_here = std::min(slice_steps, n_steps - first);
                const int64_t at = first * n_tiles + tile * steps_here + step - first;
                float* target = packed + (at * kFloatTileTokens + lane) * 16;
                const int64_t n_values = std::min<int64_t>(16, n - step * 16);
                std::memcpy(target, x + token * n + step * 16,
                            static_cast<size_t>(n_values) * sizeof(float));
                std::fill(target + n_values, target + 16, 0.0f);
            }
        }
    });
}

void FloatProduct::multiply_rows(const TierOps& ops, const DotPlan& plan, const TensorView& view,
                                 int64_t first_row, int64_t n_rows, int64_t n_tiles,
                                 ThreadScratch& scratch) const {
    const int64_t n = view.row_length();
    const int64_t n_groups = (n_rows + kFloatGroupRows - 1) / kFloatGroupRows;
    float* panel = scratch.panel.get(kFloatPanelRows * kFloatSliceColumns);
    float* sums = scratch.sums.get(n_tiles * kGroups * kGroupSums);
    const float* x = packed_.get();
    std::fill_n(sums, n_tiles * kGroups * kGroupSums, 0.0f);
    for (int64_t k = 0; k < n; k += kFloatSliceColumns) {
        const int64_t n_columns = std::min<int64_t>(kFloatSliceColumns, n - k);
        const int64_t n_steps = n_steps_of(n_columns);
        plan.widen({.rows = reinterpret_cast<const unsigned char*>(view.row(first_row)),
                    .row_bytes = view.row_bytes(),
                    .n_rows = n_rows,
                    .first_column = k,
                    .n_columns = n_columns,
                    .panel = panel});
        for (int64_t g = 0; g < n_groups; g += kGroupsTogether)
            for (int64_t tile = 0; tile < n_tiles; ++tile)
                ops.multiply_float_tile({.panel = panel + g * n_steps * kFloatGroupRows * 16,
                                         .n_groups = std::min(kGroupsTogether, n_groups - g),
                                         .x = x + tile * n_steps * kFloatTileTokens * 16,
                                         .n_steps = n_steps,
                                         .sums = sums + (tile * kGroups + g) * kGroupSums});
        x += n_tiles * n_steps * kFloatTileTokens * 16;
    }
}

void FloatProduct::run(const TierOps& ops, ThreadPool& pool, const DotPlan& plan,
                       const Weight& weight, const float* x, int64_t n_tokens, const float* bias,
                       Epilogue epilogue, float* y) {
    const int64_t n = weight.n_in(), n_out = weight.n_out();
    for (int64_t t = 0; t < n_tokens; t += kMostTokens) {
        const int64_t n_block = std::min(kMostTokens, n_tokens - t);
        const int64_t n_tiles = (n_block + kFloatTileTokens - 1) / kFloatTileTokens;
        pack(pool, x + t * n, n, n_block);
        pool.parallel_for(n_out, kFloatPanelRows, [&](int64_t row, int64_t end, int thread) {
            ThreadScratch& scratch = threads_[static_cast<size_t>(thread)];
            multiply_rows(ops, plan, weight.view, row, end - row, n_tiles, scratch);
            const float* sums = scratch.sums.get();
            float* results = scratch.results.get(kFloatTileTokens * kFloatPanelRows);
            for (int64_t tile = 0; tile < n_tiles; ++tile) {
                const int64_t token = tile * kFloatTileTokens;
                ops.sum_float_tile(sums + tile * kGroups * kGroupSums, results);
                ops.store_tile({.tile = results,
                                .tile_stride = kFloatPanelRows,
                                .n_rows = end - row,
                                .n_tokens = std::min<int64_t>(kFloatTileTokens, n_block - token),
                                .factor = matrix_scale(weight, row),
                                .bias = bias != nullptr ? bias + row : nullptr,
                                .kind = store_kind(epilogue),
                                .y = y + (t + token) * n_out + row,
                                .y_stride = n_out});
            }
        });
    }
}

}  // namespace nemo
