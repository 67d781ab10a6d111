#include "app/timed_backend.h"

#include "models/inventory.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <set>

namespace nemo {

namespace {

double product(std::initializer_list<int64_t> factors) {
    double result = 1;
    for (const int64_t factor : factors) result *= static_cast<double>(factor);
    return result;
}

}  // namespace

template <class Run>
void TimedBackend::measure(const std::string& name, double n_bytes, double n_operations,
                           const Run& run, Moves moves) {
    if (!timing_) return run();
    const auto start = std::chrono::steady_clock::now();
    run();
    // A device works on while the caller goes on; here it has to be waited for.
    inner_.sync();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    auto entry = std::ranges::find(times_, name, &OpTime::name);
    if (entry == times_.end()) entry = times_.insert(entry, {.name = name});
    ++entry->n_calls;
    entry->seconds += elapsed.count();
    entry->n_bytes += n_bytes;
    if (moves == Moves::weights) entry->n_weight_bytes += n_bytes;
    entry->n_operations += n_operations;
}

Weight TimedBackend::upload(const TensorView& view, const TensorView* scale) {
    return inner_.upload(view, scale);
}

FloatBuffer TimedBackend::alloc(int64_t n_floats) {
    return inner_.alloc(n_floats);
}

void TimedBackend::sync() {
    inner_.sync();
}

void TimedBackend::embed(const Weight& table, std::span<const int32_t> tokens, float* y) {
    measure("embed", product({table.view.row_bytes(), std::ssize(tokens)}), 0,
            [&] { inner_.embed(table, tokens, y); });
}

void TimedBackend::rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens,
                            int64_t n, float* y, Readers readers) {
    measure("rms_norm", 0, product({4, n, n_tokens}),
            [&] { inner_.rms_norm(x, weight, eps, n_tokens, n, y, readers); });
}

void TimedBackend::layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                              int64_t n_tokens, int64_t n, float* y, Readers readers) {
    measure("layer_norm", 0, product({7, n, n_tokens}),
            [&] { inner_.layer_norm(x, weight, bias, eps, n_tokens, n, y, readers); });
}

void TimedBackend::rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim,
                        int64_t position, int64_t n_tokens, float* x) {
    measure("rope", 0, product({3, rotary.n_dims, n_heads, n_tokens}),
            [&] { inner_.rope(rotary, n_heads, head_dim, position, n_tokens, x); });
}

void TimedBackend::matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y,
                          Epilogue epilogue, const Weight& bias, Readers readers) {
    measure(
        tensor_stem(weight.view.name), static_cast<double>(weight.view.n_bytes()),
        product({2, weight.n_in(), weight.n_out(), n_tokens}),
        [&] { inner_.matmul(weight, x, n_tokens, y, epilogue, bias, readers); }, Moves::weights);
}

void TimedBackend::conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                             const Weight& weight, const Weight& bias, float* state,
                             int64_t n_tokens, float* y, bool keep_state) {
    measure("conv_silu", product({keep_state ? 8 : 4, shape.conv_state_size()}),
            product({2, shape.conv_kernel, shape.conv_dim(), n_tokens}), [&] {
                inner_.conv_silu(shape, xbc, x_stride, weight, bias, state, n_tokens, y,
                                 keep_state);
            });
}

void TimedBackend::ssm_scan(const SsmScan& scan) {
    // Per element of the state: decay, input, output.
    measure("ssm_scan", product({scan.keep_state ? 8 : 4, scan.shape.ssm_state_size()}),
            product({5, scan.shape.ssm_state_size(), scan.n_tokens}),
            [&] { inner_.ssm_scan(scan); });
}

void TimedBackend::gated_group_norm(float* y, const float* z, int64_t z_stride,
                                    const Weight& weight, float eps, int64_t n_tokens, int64_t n,
                                    int64_t n_groups, Readers readers) {
    measure("gated_group_norm", 0, product({6, n, n_tokens}), [&] {
        inner_.gated_group_norm(y, z, z_stride, weight, eps, n_tokens, n, n_groups, readers);
    });
}

void TimedBackend::kv_append(const float* rows, int64_t n_tokens, int64_t position,
                             const KvCache& cache) {
    measure("kv_append", product({n_tokens, cache.layout.token_bytes()}), 0,
            [&] { inner_.kv_append(rows, n_tokens, position, cache); });
}

void TimedBackend::attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                             const KvCache& values, int64_t position, int64_t n_tokens, float* y) {
    // Token t looks at position + t + 1 rows.
    const double n_pairs =
        static_cast<double>(n_tokens) *
        (static_cast<double>(position) + (static_cast<double>(n_tokens) + 1) / 2);
    measure("attention",
            product({position + n_tokens, keys.layout.token_bytes() + values.layout.token_bytes()}),
            4 * n_pairs * static_cast<double>(shape.q_dim()),
            [&] { inner_.attention(shape, q, keys, values, position, n_tokens, y); });
}

void TimedBackend::route(const RouterShape& shape, const float* logits, const Weight& bias,
                         int64_t n_tokens, int32_t* ids, float* weights) {
    measure("route", 0, 0, [&] { inner_.route(shape, logits, bias, n_tokens, ids, weights); });
}

void TimedBackend::experts(const Weight& up, const Weight& down, const RouterShape& shape,
                           const int32_t* ids, const float* weights, const float* x,
                           int64_t n_tokens, float* y) {
    const int64_t n_uses = n_tokens * shape.n_used;
    const auto n_experts_read = std::ssize(std::set<int32_t>(ids, ids + n_uses));
    const int64_t n_expert_bytes = (up.view.n_bytes() + down.view.n_bytes()) / shape.n_experts;
    measure(
        "experts", product({n_experts_read, n_expert_bytes}),
        product({2, up.n_in() * up.n_out() + down.n_in() * down.n_out(), n_uses}),
        [&] { inner_.experts(up, down, shape, ids, weights, x, n_tokens, y); }, Moves::weights);
}

void TimedBackend::add(const float* x, int64_t n, float* y) {
    measure("add", 0, product({n}), [&] { inner_.add(x, n, y); });
}

void TimedBackend::copy(const float* from, int64_t n, float* to) {
    measure("copy", product({8, n}), 0, [&] { inner_.copy(from, n, to); });
}

void TimedBackend::clear(float* x, int64_t n) {
    measure("clear", product({4, n}), 0, [&] { inner_.clear(x, n); });
}

}  // namespace nemo
