#include "kernels/cpu/matmul.h"

#include "kernels/cpu/cpu_tier.h"

#include <algorithm>

namespace nemo {

namespace {

// Weights of one piece of work: some 40 us of reading memory.
constexpr int64_t kPieceBytes = 512 * 1024;
constexpr int64_t kMostPieceRows = 256;
// Pieces that each thread gets at least, of matrices with so many rows.
constexpr int64_t kPiecesPerThread = 4;

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

int64_t piece_rows(const Weight& weight, int64_t n_rows, int n_threads) {
    const int64_t share = n_rows / (kPiecesPerThread * n_threads);
    const int64_t most = std::min({kPieceBytes / weight.view.row_bytes(), share, kMostPieceRows});
    return std::max(most / kStripRows, int64_t{1}) * kStripRows;
}

void multiply_piece(const TierOps& ops, const DotPlan& plan, const Weight& weight,
                    int64_t first_row, int64_t n_rows, const DotBlock& block, const float* bias,
                    Epilogue epilogue, float* y, int64_t y_stride, TileScratch& scratch) {
    static const bool fetches_ahead = !cpu_follows_streams();
    const TensorView& view = weight.view;
    const auto* rows = reinterpret_cast<const unsigned char*>(view.row(first_row));
    float* tile = scratch.get(n_rows * block.n_tokens);  // [n_tokens, n_rows]
    if (plan.quantized)
        ops.dot_strips[plan.format_index()]({.rows = rows,
                                             .row_bytes = view.row_bytes(),
                                             .n_rows = n_rows,
                                             .n = view.row_length(),
                                             .fetches_ahead = fetches_ahead,
                                             .x = &block.batch,
                                             .tile = tile,
                                             .tile_stride = n_rows});
    else
        plan.dot({.rows = rows,
                  .row_bytes = view.row_bytes(),
                  .n_rows = n_rows,
                  .n = view.row_length(),
                  .x = block.rows,
                  .n_tokens = block.n_tokens,
                  .tile = tile,
                  .tile_stride = n_rows});
    ops.store_tile({.tile = tile,
                    .tile_stride = n_rows,
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
    const int64_t grain = piece_rows(weight, n_out, pool.n_threads());
    pool.parallel_for(n_out, grain, [&](int64_t begin, int64_t end, int thread) {
        for (const DotBlock& block : input.blocks())
            multiply_piece(ops, plan, weight, begin, end - begin, block,
                           bias != nullptr ? bias + begin : nullptr, epilogue,
                           y + block.first * n_out + begin, n_out,
                           scratch[static_cast<size_t>(thread)]);
    });
}

}  // namespace nemo
