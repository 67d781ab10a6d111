#include "kernels/cpu/matmul.h"

#include <algorithm>

namespace nemo {

namespace {

// Weights of one piece of work: some 20 us of reading memory.
constexpr int64_t kPieceBytes = 256 * 1024;

}  // namespace

StoreKind store_kind(Epilogue epilogue) {
    switch (epilogue) {
        case Epilogue::store:
            return StoreKind::store;
        case Epilogue::add:
            return StoreKind::add;
        case Epilogue::relu2:
            return StoreKind::relu2;
    }
    return StoreKind::store;
}

void multiply_tile(const TierOps& ops, const DotPlan& plan, const Weight& weight, int64_t first_row,
                   int64_t n_rows, int64_t n_rows_ahead, const DotBlock& block, const float* bias,
                   Epilogue epilogue, float* y, int64_t y_stride, TileScratch& scratch) {
    const TensorView& view = weight.view;
    const auto* rows = reinterpret_cast<const unsigned char*>(view.row(first_row));
    float* tile = scratch.get(kTileRows * kBlockTokens);
    if (plan.quantized)
        ops.dot_strips[plan.format_index()]({.rows = rows,
                                             .row_bytes = view.row_bytes(),
                                             .n_rows = n_rows,
                                             .n_rows_ahead = n_rows_ahead,
                                             .n = view.row_length(),
                                             .x = &block.batch,
                                             .tile = tile,
                                             .tile_stride = kTileRows});
    else
        plan.dot({.rows = rows,
                  .row_bytes = view.row_bytes(),
                  .n_rows = n_rows,
                  .n = view.row_length(),
                  .x = block.rows,
                  .n_tokens = block.n_tokens,
                  .tile = tile,
                  .tile_stride = kTileRows});
    ops.store_tile({.tile = tile,
                    .tile_stride = kTileRows,
                    .n_rows = n_rows,
                    .n_tokens = block.n_tokens,
                    .factor = matrix_scale(weight, first_row),
                    .bias = bias,
                    .kind = store_kind(epilogue),
                    .y = y,
                    .y_stride = y_stride});
}

void multiply_rows(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const Weight& weight,
                   const DotInput& input, const float* bias, Epilogue epilogue, float* y,
                   std::vector<TileScratch>& scratch) {
    const int64_t n_out = weight.n_out();
    const int64_t grain =
        std::max(kPieceBytes / weight.view.row_bytes() / kTileRows, int64_t{1}) * kTileRows;
    pool.parallel_for(n_out, grain, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t row = begin; row < end; row += kTileRows) {
            const int64_t n_rows = std::min(kTileRows, end - row);
            for (const DotBlock& block : input.blocks())
                multiply_tile(ops, plan, weight, row, n_rows, end - row - n_rows, block,
                              bias != nullptr ? bias + row : nullptr, epilogue,
                              y + block.first * n_out + row, n_out,
                              scratch[static_cast<size_t>(thread)]);
        }
    });
}

}  // namespace nemo
