// Products of F32, F16 and BF16 weights with many tokens, in fp32.
//
// 48 rows of weights are widened to fp32, 512 columns at a time, which then meet many tokens: each
// weight is converted once for all of them. Every (row, token) keeps the 16 lanes that it has in
// `TierOps::Dot` from columns to columns, so the results are those of few tokens (matmul.h), bit
// for bit. Activations are packed once per call in the order in which tiles read them.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/dot_input.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <vector>

namespace nemo {

class FloatProduct {
public:
    explicit FloatProduct(int n_threads) : threads_(static_cast<size_t>(n_threads)) {}

    // y [n_tokens, n_out] = W x (+ bias, or null), then the epilogue; as Backend::matmul.
    void run(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const Weight& weight,
             const float* x, int64_t n_tokens, const float* bias, Epilogue epilogue, float* y);

private:
    struct ThreadScratch {
        ScratchBuffer<float> panel;    // FloatPanelJob::panel
        ScratchBuffer<float> sums;     // [tiles] FloatTileJob::sums of 48 rows
        ScratchBuffer<float> results;  // [kFloatTileTokens][48]
    };
    // packed_ = the tokens of x [n_tokens, n]: slices of columns, in them tiles, in them
    // FloatTileJob::x.
    void pack(ThreadPool& pool, const float* x, int64_t n, int64_t n_tokens);
    // sums = rows [first_row, + n_rows) times all packed tokens.
    void multiply_rows(const TierOps& ops, const DotPlan& plan, const TensorView& view,
                       int64_t first_row, int64_t n_rows, int64_t n_tiles,
                       ThreadScratch& scratch) const;

    ScratchBuffer<float> packed_;
    std::vector<ThreadScratch> threads_;
};

}  // namespace nemo
