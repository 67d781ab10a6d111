// Matrix products of weights in any format with fp32 activations.
//
// F32, F16 and BF16 rows are dotted as they are. All block formats meet activations quantized to
// int8, once per call. The work is split over output rows in pieces, and within a piece over blocks
// of tokens; neither changes a result. Calls of up to kSmallBatch tokens read the weights by rows
// or strips (here), more by panels (panel_product.h, float_product.h), with the same bits.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/dot_input.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <vector>

namespace nemo {

using TileScratch = ScratchBuffer<float>;

// Rows of a piece of work on matrices of n_rows rows: enough bytes for long streams (tier.h), few
// enough that all threads get several pieces.
int64_t piece_rows(const Weight& weight, int64_t n_rows, int n_threads);

// y[t * y_stride + r] = epilogue of the rows [first_row, first_row + n_rows) of `weight` (over all
// of dims 1-3, all of one matrix) times the block's token t (plus bias[r], or null).
void multiply_piece(const TierOps& ops, const DotPlan& plan, const Weight& weight,
                    int64_t first_row, int64_t n_rows, const DotBlock& block, const float* bias,
                    Epilogue epilogue, float* y, int64_t y_stride, TileScratch& scratch);

// y [n_tokens, n_out] of `weight`'s only matrix.
void multiply_rows(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const Weight& weight,
                   const DotInput& input, const float* bias, Epilogue epilogue, float* y,
                   std::vector<TileScratch>& scratch);

StoreKind store_kind(Epilogue epilogue);

// Weight::scale of the matrix that a row is in.
inline float matrix_scale(const Weight& weight, int64_t row) {
    return weight.scale != nullptr ? weight.scale[row / weight.view.dims[1]] : 1.0f;
}

}  // namespace nemo
