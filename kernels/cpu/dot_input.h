// Activations of a product, cut into the blocks of tokens that a tile of weight rows takes at once:
// pointers to fp32 rows for float weights, int8 batches for block formats.
#pragma once

#include "core/tensor.h"
#include "core/thread_pool.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

// How rows of a format meet activations: as floats through `dot` or, many tokens, `widen`; or by a
// block format's kernels.
struct DotPlan {
    TierOps::Dot dot = nullptr;
    TierOps::Widen widen = nullptr;
    bool quantized = false;
    QuantFormat format = QuantFormat::count;

    int format_index() const { return static_cast<int>(format); }
};
DotPlan plan_dot(const TierOps& ops, DType dtype);

// Tokens [first, first + n_tokens) of the order given to prepare.
struct DotBlock {
    int64_t first = 0;
    int64_t n_tokens = 0;
    const float* const* rows = nullptr;  // or, if quantized:
    ActivationBatch batch = {};
};

// Most tokens of a block.
constexpr int64_t kBlockTokens = 60;

class DotInput {
public:
    // The tokens are rows order[0], order[1], ... of x [., n] (empty: 0, 1, ...), n_tokens of them;
    // no block contains tokens of two groups, whose ends are given (empty: one group).
    void prepare(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const float* x,
                 int64_t n, int64_t n_tokens, std::span<const int64_t> order = {},
                 std::span<const int64_t> group_ends = {});

    // Of one group. Refers to x, or to memory of this object.
    std::span<const DotBlock> blocks(size_t group = 0) const {
        return std::span(blocks_).subspan(group_blocks_[group],
                                          group_blocks_[group + 1] - group_blocks_[group]);
    }

private:
    struct ThreadScratch {
        ScratchBuffer<int8_t> codes;
        ScratchBuffer<float> scales;
        ScratchBuffer<int32_t> sums, magnitudes;
    };
    void cut(int64_t n_tokens, int64_t most, std::span<const int64_t> group_ends);
    void quantize(const TierOps& ops, ThreadPool& pool, const QuantTraits& traits, int64_t n);
    void quantize_token(const TierOps& ops, const QuantTraits& traits, const float* x, int64_t n,
                        ActivationBatch& batch, int64_t place, ThreadScratch& scratch);

    std::vector<DotBlock> blocks_;
    std::vector<size_t> group_blocks_;  // first block of every group, and the end
    const float** rows_ = nullptr;
    ScratchBuffer<const float*> row_memory_;
    ScratchBuffer<int8_t> codes_;
    ScratchBuffer<float> scales_, sums_;
    ScratchBuffer<int32_t> starts_, pairs_;
    std::vector<ThreadScratch> threads_;
};

}  // namespace nemo
