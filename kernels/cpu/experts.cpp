#include "kernels/cpu/experts.h"

#include <algorithm>

namespace nemo {

namespace {

Weight matrix_of(const Weight& weight, int64_t index) {
    Weight matrix = weight;
    matrix.view.data = weight.view.row(index * weight.n_out());
    matrix.view.dims[2] = 1;
    if (weight.scale != nullptr) matrix.scale = weight.scale + index;
    return matrix;
}

}  // namespace

void Experts::sort_by_expert(const int32_t* ids, int64_t n_tokens, int64_t n_used,
                             int64_t n_experts, int64_t few) {
    const int64_t n_uses = n_tokens * n_used;
    experts_.clear();
    ends_.clear();
    counts_.assign(static_cast<size_t>(n_experts), 0);
    next_.resize(counts_.size());
    for (int64_t i = 0; i < n_uses; ++i) ++counts_[static_cast<size_t>(ids[i])];
    int64_t end = 0;
    for (const bool many : {false, true}) {
        for (int64_t e = 0; e < n_experts; ++e) {
            const int64_t count = counts_[static_cast<size_t>(e)];
            if (count == 0 || (count > few) != many) continue;
            next_[static_cast<size_t>(e)] = end;
            end += count;
            experts_.push_back(e);
            ends_.push_back(end);
        }
        if (many) break;
        n_few_ = experts_.size();
        n_few_uses_ = end;
    }
    position_.resize(static_cast<size_t>(n_uses));
    token_.resize(static_cast<size_t>(n_uses));
    for (int64_t i = 0; i < n_uses; ++i) {
        const int64_t at = next_[static_cast<size_t>(ids[i])]++;
        position_[static_cast<size_t>(i)] = at;
        token_[static_cast<size_t>(at)] = i / n_used;
    }
}

void Experts::multiply_few(const TierOps& ops, const DotPlan& plan, ThreadPool& pool,
                           const Weight& weight, const DotInput& input, Epilogue epilogue,
                           float* results, std::span<TileScratch> scratch) {
    const int64_t n_out = weight.n_out();
    // As if all experts were one matrix.
    const int64_t n_rows_read = static_cast<int64_t>(n_few_) * n_out;
    const int64_t most = std::min(piece_rows(weight, n_rows_read, pool.n_threads()), n_out);
    const int64_t n_pieces = (n_out + most - 1) / most;
    pool.parallel_for(
        static_cast<int64_t>(n_few_) * n_pieces, 1, [&](int64_t work, int64_t, int thread) {
            const auto group = static_cast<size_t>(work / n_pieces);
            const int64_t row = work % n_pieces * most;
            const int64_t n_rows = std::min(most, n_out - row);
            for (const DotBlock& block : input.blocks(group))
                multiply_piece(ops, plan, weight, experts_[group] * n_out + row, n_rows, block,
                               nullptr, epilogue, results + block.first * n_out + row, n_out,
                               scratch[static_cast<size_t>(thread)]);
        });
}

void Experts::multiply_many(const TierOps& ops, const DotPlan& plan, ThreadPool& pool,
                            const Weight& weight, const float* x, std::span<const int64_t> order,
                            Epilogue epilogue, float* results, PanelProduct& panels) {
    int64_t begin = n_few_uses_;
    for (size_t i = n_few_; i < experts_.size(); begin = ends_[i], ++i) {
        const int64_t n_uses = ends_[i] - begin;
        const Weight matrix = matrix_of(weight, experts_[i]);
        if (order.empty())
            panels.run(ops, pool, plan.format, matrix, x + begin * weight.n_in(), n_uses, nullptr,
                       epilogue, results + begin * weight.n_out());
        else
            panels.run(ops, pool, plan.format, matrix, x, n_uses, nullptr, epilogue,
                       results + begin * weight.n_out(),
                       order.subspan(static_cast<size_t>(begin), static_cast<size_t>(n_uses)));
    }
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
                  int64_t n_tokens, float* y, std::span<TileScratch> scratch, PanelProduct& panels,
                  MatmulObserver* observer) {
    const int64_t n_uses = n_tokens * n_used;
    const int64_t n_hidden = up.n_out(), n_out = down.n_out();
    const DotPlan up_plan = plan_dot(ops, up.view.dtype);
    const DotPlan down_plan = plan_dot(ops, down.view.dtype);
    sort_by_expert(ids, n_tokens, n_used, up.view.dims[2],
                   up_plan.quantized && down_plan.quantized ? kSmallBatch : n_uses);
    const std::span<const int64_t> few_ends = std::span(ends_).first(n_few_);

    x_input_.prepare(ops, pool, up_plan, x, up.n_in(), n_few_uses_,
                     std::span(token_).first(static_cast<size_t>(n_few_uses_)), few_ends);
    float* hidden = hidden_.get(n_uses * n_hidden);
    multiply_few(ops, up_plan, pool, up, x_input_, Epilogue::relu2, hidden, scratch);
    multiply_many(ops, up_plan, pool, up, x, token_, Epilogue::relu2, hidden, panels);
    if (observer != nullptr) report(*observer, up, down, ids, n_uses, n_used, x, hidden);

    hidden_input_.prepare(ops, pool, down_plan, hidden, n_hidden, n_few_uses_, {}, few_ends);
    float* results = results_.get(n_uses * n_out);
    multiply_few(ops, down_plan, pool, down, hidden_input_, Epilogue::store, results, scratch);
    multiply_many(ops, down_plan, pool, down, hidden, {}, Epilogue::store, results, panels);

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
