// The routed experts of a mixture-of-experts layer.
//
// Uses (token, slot) are sorted by expert, so that an expert's matrices are read once for all
// tokens that chose it; the results are kept per use and summed per token in the order of its
// slots, so that a token's result does not depend on the other tokens of the call.
#pragma once

#include "kernels/cpu/matmul.h"

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
             int64_t n_tokens, float* y, std::span<TileScratch> scratch, MatmulObserver* observer);

private:
    // Uses [begin, end) of the sorted order belong to one expert.
    struct Group {
        int64_t expert;
        int64_t begin;
        int64_t end;
    };
    void sort_by_expert(const int32_t* ids, int64_t n_uses, int64_t n_experts);
    void report(MatmulObserver& observer, const Weight& up, const Weight& down, const int32_t* ids,
                int64_t n_uses, int64_t n_used, const float* x, const float* hidden) const;
    // results [n_uses, n_out], in sorted order.
    void multiply(const DotPlan& plan, ThreadPool& pool, const Weight& weight,
                  const void* const* inputs, int64_t block, Epilogue epilogue, float* results,
                  std::span<TileScratch> scratch);

    std::vector<Group> groups_;
    std::vector<int64_t> position_;  // of each use in the sorted order
    std::vector<int64_t> next_;      // per expert: first position, then the next free one
    std::vector<const void*> inputs_;
    DotInput x_input_, hidden_input_;
    Scratch<float> hidden_, results_;
};

}  // namespace nemo
