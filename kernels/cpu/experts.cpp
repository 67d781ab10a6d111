#include "kernels/cpu/experts.h"

#include <algorithm>
#include <utility>

namespace nemo {

void Experts::sort_by_expert(const int32_t* ids, int64_t n_uses, int64_t n_experts) {
    groups_.clear();
    next_.assign(static_cast<size_t>(n_experts), 0);
    for (int64_t i = 0; i < n_uses; ++i) ++next_[static_cast<size_t>(ids[i])];
    int64_t begin = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
        int64_t& count = next_[static_cast<size_t>(e)];
        if (count > 0) groups_.push_back({.expert = e, .begin = begin, .end = begin + count});
        begin += std::exchange(count, begin);
    }
    position_.resize(static_cast<size_t>(n_uses));
    for (int64_t i = 0; i < n_uses; ++i)
        position_[static_cast<size_t>(i)] = next_[static_cast<size_t>(ids[i])]++;
}

void Experts::multiply(const DotPlan& plan, ThreadPool& pool, const Weight& weight,
                       const void* const* inputs, int64_t block, Epilogue epilogue, float* results,
                       std::span<TileScratch> scratch) {
    const int64_t n_out = weight.n_out();
    const int64_t n_tiles = (n_out + kTileRows - 1) / kTileRows;
    const int64_t n_work = static_cast<int64_t>(groups_.size()) * n_tiles;
    pool.parallel_for(n_work, 1, [&](int64_t work, int64_t, int thread) {
        const Group& group = groups_[static_cast<size_t>(work / n_tiles)];
        const int64_t row = work % n_tiles * kTileRows;
        const int64_t n_rows = std::min(kTileRows, n_out - row);
        for (int64_t use = group.begin; use < group.end; use += block) {
            const int64_t n_block = std::min(block, group.end - use);
            const float* tile =
                compute_tile(plan, weight, group.expert * n_out + row, n_rows, inputs + use,
                             n_block, scratch[static_cast<size_t>(thread)]);
            store_tile(tile, n_rows, n_block, nullptr, epilogue, results + use * n_out + row,
                       n_out);
        }
    });
}

void Experts::report(MatmulObserver& observer, const Weight& up, const Weight& down,
                     const int32_t* ids, int64_t n_uses, int64_t n_used, const float* x,
                     const float* hidden) const {
    for (int64_t i = 0; i < n_uses; ++i) {
        observer.observe(up, ids[i], x + i / n_used * up.n_in());
        observer.observe(down, ids[i], hidden + position_[static_cast<size_t>(i)] * down.n_in());
    }
}

void Experts::run(const TierOps& ops, ThreadPool& pool, const Weight& up, const Weight& down,
                  int64_t n_used, const int32_t* ids, const float* weights, const float* x,
                  int64_t n_tokens, float* y, std::span<TileScratch> scratch,
                  MatmulObserver* observer) {
    const int64_t n_uses = n_tokens * n_used;
    const int64_t n_hidden = up.n_out(), n_out = down.n_out();
    sort_by_expert(ids, n_uses, up.view.dims[2]);

    const DotPlan up_plan = plan_dot(ops, up.view.dtype);
    x_input_.prepare(ops, pool, up_plan, x, n_tokens, up.n_in());
    inputs_.resize(static_cast<size_t>(n_uses));
    for (int64_t i = 0; i < n_uses; ++i)
        inputs_[static_cast<size_t>(position_[static_cast<size_t>(i)])] =
            x_input_.rows()[i / n_used];
    float* hidden = hidden_.get(n_uses * n_hidden);
    multiply(up_plan, pool, up, inputs_.data(), x_input_.tokens_per_block(), Epilogue::relu2,
             hidden, scratch);
    if (observer != nullptr) report(*observer, up, down, ids, n_uses, n_used, x, hidden);

    const DotPlan down_plan = plan_dot(ops, down.view.dtype);
    hidden_input_.prepare(ops, pool, down_plan, hidden, n_uses, n_hidden);
    float* results = results_.get(n_uses * n_out);
    multiply(down_plan, pool, down, hidden_input_.rows(), hidden_input_.tokens_per_block(),
             Epilogue::store, results, scratch);

    pool.parallel_for(n_tokens, 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
            float* out = y + t * n_out;
            std::fill_n(out, n_out, 0.0f);
            for (int64_t slot = t * n_used; slot < (t + 1) * n_used; ++slot) {
                const float* result = results + position_[static_cast<size_t>(slot)] * n_out;
                for (int64_t i = 0; i < n_out; ++i) out[i] += weights[slot] * result[i];
            }
        }
    });
}

}  // namespace nemo
