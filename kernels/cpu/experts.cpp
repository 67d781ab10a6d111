#include "kernels/cpu/experts.h"

#include <algorithm>
#include <utility>

namespace nemo {

void Experts::sort_by_expert(const int32_t* ids, int64_t n_tokens, int64_t n_used,
                             int64_t n_experts) {
    const int64_t n_uses = n_tokens * n_used;
    experts_.clear();
    ends_.clear();
    next_.assign(static_cast<size_t>(n_experts), 0);
    for (int64_t i = 0; i < n_uses; ++i) ++next_[static_cast<size_t>(ids[i])];
    int64_t begin = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
        int64_t& count = next_[static_cast<size_t>(e)];
        if (count > 0) {
            experts_.push_back(e);
            ends_.push_back(begin + count);
        }
        begin += std::exchange(count, begin);
    }
    position_.resize(static_cast<size_t>(n_uses));
    token_.resize(static_cast<size_t>(n_uses));
    for (int64_t i = 0; i < n_uses; ++i) {
        const int64_t at = next_[static_cast<size_t>(ids[i])]++;
        position_[static_cast<size_t>(i)] = at;
        token_[static_cast<size_t>(at)] = i / n_used;
    }
}

void Experts::multiply(const TierOps& ops, const DotPlan& plan, ThreadPool& pool,
                       const Weight& weight, const DotInput& input, Epilogue epilogue,
                       float* results, std::span<TileScratch> scratch) {
    const int64_t n_out = weight.n_out();
    const int64_t n_tiles = (n_out + kTileRows - 1) / kTileRows;
    pool.parallel_for(std::ssize(experts_) * n_tiles, 1, [&](int64_t work, int64_t, int thread) {
        const auto group = static_cast<size_t>(work / n_tiles);
        const int64_t row = work % n_tiles * kTileRows;
        const int64_t n_rows = std::min(kTileRows, n_out - row);
        for (const DotBlock& block : input.blocks(group))
            multiply_tile(ops, plan, weight, experts_[group] * n_out + row, n_rows,
                          n_out - row - n_rows, block, nullptr, epilogue,
                          results + block.first * n_out + row, n_out,
                          scratch[static_cast<size_t>(thread)]);
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
    sort_by_expert(ids, n_tokens, n_used, up.view.dims[2]);

    const DotPlan up_plan = plan_dot(ops, up.view.dtype);
    x_input_.prepare(ops, pool, up_plan, x, up.n_in(), n_uses, token_, ends_);
    float* hidden = hidden_.get(n_uses * n_hidden);
    multiply(ops, up_plan, pool, up, x_input_, Epilogue::relu2, hidden, scratch);
    if (observer != nullptr) report(*observer, up, down, ids, n_uses, n_used, x, hidden);

    const DotPlan down_plan = plan_dot(ops, down.view.dtype);
    hidden_input_.prepare(ops, pool, down_plan, hidden, n_hidden, n_uses, {}, ends_);
    float* results = results_.get(n_uses * n_out);
    multiply(ops, down_plan, pool, down, hidden_input_, Epilogue::store, results, scratch);

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
