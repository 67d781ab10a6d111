// Matrix products of weights in any format with fp32 activations.
//
// F32, F16 and BF16 rows are dotted as they are; Q8_0 and Q4_0 rows as integers with activations
// quantized to int8 per 32 values, once per call; rows of all other formats are first decoded to
// fp32. The work is split over output rows in pieces of fixed size, and within a piece over blocks
// of tokens whose activations fit in the second-level cache; neither changes a result.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>

namespace nemo {

// Rows of one piece of work, and most tokens of a block: the size of a tile.
constexpr int64_t kTileRows = 32;
constexpr int64_t kTileTokens = 64;

// How rows of a format meet activations.
struct DotPlan {
    TierOps::Dot dot;
    bool decode;          // decode to F32 first
    int32_t int8_offset;  // of the stored codes; 0: fp32 activations

    bool int8() const { return int8_offset != 0; }
};
DotPlan plan_dot(const TierOps& ops, DType dtype);

// Activations in the form that a plan wants. Refers to `x`, or to its own memory if quantized.
class DotInput {
public:
    void prepare(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const float* x,
                 int64_t n_tokens, int64_t n);
    // One pointer per token, for DotJob::x.
    const void* const* rows() const { return rows_; }
    // Tokens whose activations fit in cache together; a multiple of 4.
    int64_t tokens_per_block() const { return tokens_per_block_; }

private:
    Scratch<ActivationPair> pairs_;
    Scratch<const void*> row_memory_;
    const void** rows_ = nullptr;
    int64_t tokens_per_block_ = 0;
};

// What one thread needs to compute tiles.
struct TileScratch {
    Scratch<float> tile;
    Scratch<float> decoded;
};

// tile [n_tokens, kTileRows] = rows [first_row, first_row + n_rows) of `weight` (over all of dims
// 1-3, all of one matrix) times x[0 ... n_tokens). At most kTileRows rows and kTileTokens tokens.
// Returns the tile.
float* compute_tile(const DotPlan& plan, const Weight& weight, int64_t first_row, int64_t n_rows,
                    const void* const* x, int64_t n_tokens, TileScratch& scratch);

// Adds `bias` (null: none), applies the epilogue and stores a tile at y, whose rows are y_stride
// apart.
void store_tile(const float* tile, int64_t n_rows, int64_t n_tokens, const float* bias,
                Epilogue epilogue, float* y, int64_t y_stride);

// The rows [begin, end) of a product, for all tokens of the input.
void multiply_rows(const DotPlan& plan, const Weight& weight, int64_t begin, int64_t end,
                   const DotInput& input, int64_t n_tokens, const float* bias, Epilogue epilogue,
                   float* y, int64_t y_stride, TileScratch& scratch);

}  // namespace nemo
