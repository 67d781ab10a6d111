// The routed experts of a mixture-of-experts layer.
//
// Uses (token, slot) are sorted by expert, so that an expert's matrices are read once for all
// tokens that chose it, by the kernel for that many tokens (matmul.h); the results are kept per use
// and summed per token in the order of its slots, so that a token's result does not depend on the
// other tokens of the call.
#pragma once

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/panel_product.h"

#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

class Experts {
public:
    // Arguments as Backend::experts; `scratch` has one element per thread of the pool; `observer`
    // may be null.
    void run(const TierOps& ops, ThreadPool& pool, const Weight& up, const Weight& down,
             int64_t n_used, const int32_t* ids, const float* weights, const float* x,
             int64_t n_tokens, float* y, std::span<TileScratch> scratch, PanelProduct& panels,
             MatmulObserver* observer);

private:
    // Experts with more than `few` uses come last.
    void sort_by_expert(const int32_t* ids, int64_t n_tokens, int64_t n_used, int64_t n_experts,
                        int64_t few);
    void report(MatmulObserver& observer, const Weight& up, const Weight& down, const int32_t* ids,
                int64_t n_uses, int64_t n_used, const float* x, const float* hidden) const;
    // results [n_uses, n_out], in sorted order, of the experts with few uses, or of the others: the
    // uses are rows order[0], ... of x (empty: 0, ...).
    void multiply_few(const TierOps& ops, const DotPlan& plan, ThreadPool& pool,
                      const Weight& weight, const DotInput& input, Epilogue epilogue,
                      float* results, std::span<TileScratch> scratch);
    void multiply_many(const TierOps& ops, const DotPlan& plan, ThreadPool& pool,
                       const Weight& weight, const float* x, std::span<const int64_t> order,
                       Epilogue epilogue, float* results, PanelProduct& panels);

    // Uses sorted by expert. Experts that are used, and where each one's uses end.
    std::vector<int64_t> experts_, ends_;
    size_t n_few_ = 0;               // experts with few uses
    int64_t n_few_uses_ = 0;         // theirs
    std::vector<int64_t> position_;  // of each use in the sorted order
    std::vector<int64_t> token_;     // of each sorted use
    std::vector<int64_t> counts_;    // uses per expert
    std::vector<int64_t> next_;      // per expert: first position, then the next free one
    DotInput x_input_, hidden_input_;
    ScratchBuffer<float> hidden_, results_;
};

}  // namespace nemo
