// What a device can do for a model: memory and about eighteen coarse operations, free of any
// architecture. One implementation per device; the CPU's lies in kernels/cpu.
//
// Conventions
// - Activations are fp32, row-major, one row per token: [T, n]. `stride` is the distance in floats
//   between the rows of two tokens, where an operation reads a slice of a wider row.
// - All pointers are memory of this backend (alloc), except token ids and routing results, which
//   are host memory on the CPU backend.
// - Every operation gives the same bits for any number of threads, and for a prompt cut into chunks
//   anywhere: one output element is always reduced in the same order.
// - Operations do not throw; a failing device reports in sync(). Shapes are the caller's promise.
#pragma once

#include "core/tensor.h"
#include "kernels/kv_cache.h"

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>

namespace nemo {

// A tensor as the backend keeps it. On the CPU: the mapped file itself.
struct Weight {
    TensorView view;
    // NVFP4 tensors come with a factor per matrix (dims[2] of them); null: 1.
    const float* scale = nullptr;

    bool present() const { return view.data != nullptr; }
    int64_t n_in() const { return view.dims[0]; }
    int64_t n_out() const { return view.dims[1]; }
    // Only for F32 tensors (norms, conv, biases, router).
    const float* f32() const { return reinterpret_cast<const float*>(view.data); }
};

// Device memory for fp32 values, zero at first.
using FloatBuffer = std::unique_ptr<float[], std::function<void(float*)>>;

// The weights of the next matmuls, if they are all that takes in what an operation writes to y,
// each as its x. A backend may then hand the values on in another form and leave y as it was.
// Empty: y is read in any way.
using Readers = std::initializer_list<const Weight*>;

// What a matmul does with its result v before storing it in y.
enum class Epilogue {
    store,  // y = v
    add,    // y += v: the residual connection
    relu2,  // y = max(v, 0)^2
};

// Mamba-2, nemotron-h paper notation: H heads of P channels, state size N, G groups of heads that
// share B and C; d_inner = H*P, conv_dim = H*P + 2*G*N, K taps.
struct Mamba2Shape {
    int64_t n_heads = 0;      // H
    int64_t head_dim = 0;     // P
    int64_t state_size = 0;   // N
    int64_t n_groups = 0;     // G
    int64_t conv_kernel = 0;  // K

    int64_t d_inner() const { return n_heads * head_dim; }
    int64_t conv_dim() const { return d_inner() + 2 * n_groups * state_size; }
    // in_proj rows in order: z [d_inner], xBC [conv_dim], dt [H].
    int64_t in_proj_dim() const { return d_inner() + conv_dim() + n_heads; }
    int64_t conv_state_size() const { return (conv_kernel - 1) * conv_dim(); }
    int64_t ssm_state_size() const { return n_heads * state_size * head_dim; }
};

struct SsmScan {
    Mamba2Shape shape;
    const float* xbc;  // [T, conv_dim]: x [H, P], B [G, N], C [G, N], after conv and SiLU
    const float* dt;   // [T, H] with dt_stride: before bias and softplus
    int64_t dt_stride;
    const float* a;        // [H], negative: -exp(A_log)
    const float* d;        // [H]
    const float* dt_bias;  // [H]
    float* state;          // [H, N, P], updated in place
    float* y;              // [T, d_inner]
    int64_t n_tokens;
    bool keep_state = true;  // false: the state stays what it was
};

// Rotary positions (arXiv 2104.09864), half-split as in GPT-NeoX: of the first n_dims values of a
// head, i and i + n_dims/2 turn by the angle position * position_scale * theta^(-2i/n_dims).
struct RotaryShape {
    int64_t n_dims = 0;  // even; 0: no positions
    float theta = 10000.0f;
    float position_scale = 1.0f;
};

struct AttentionShape {
    int64_t n_heads = 0;
    int64_t n_kv_heads = 0;
    int64_t head_dim = 0;
    RotaryShape rotary;  // of Q and K

    int64_t q_dim() const { return n_heads * head_dim; }
    int64_t kv_dim() const { return n_kv_heads * head_dim; }
};

struct RouterShape {
    int64_t n_experts = 0;
    int64_t n_used = 0;    // top-k
    int64_t n_groups = 1;  // experts are masked to the best groups first
    int64_t n_groups_used = 1;
    bool normalize = true;  // weights sum to 1 before scaling
    float scale = 1.0f;
};

// Sees what goes into every matrix product: how importance matrices are measured.
class MatmulObserver {
public:
    virtual ~MatmulObserver() = default;
    // `row` [n_in] is multiplied by matrix `matrix` of `weight`. Called for one row after the
    // other, on the thread that runs the model and in an order that the call alone decides.
    virtual void observe(const Weight& weight, int64_t matrix, const float* row) = 0;
};

class Backend {
public:
    virtual ~Backend() = default;

    // Reports from now on to `observer`, null: to nobody, which costs nothing.
    virtual void set_observer(MatmulObserver* observer) = 0;

    // `scale`: F32, a factor for each of dims[2] matrices; absent: 1.
    virtual Weight upload(const TensorView& view, const TensorView* scale = nullptr) = 0;
    virtual FloatBuffer alloc(int64_t n_floats) = 0;
    // Waits for all work and throws Error{runtime} if any of it failed.
    virtual void sync() = 0;

    // y[t] = row tokens[t] of the table, as fp32. Ids are in range.
    virtual void embed(const Weight& table, std::span<const int32_t> tokens, float* y) = 0;

    // y = x / sqrt(mean(x^2) + eps) * weight, per row of n. y may be x.
    virtual void rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens,
                          int64_t n, float* y, Readers readers = {}) = 0;

    // y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, per row of n. y may be x.
    virtual void layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                            int64_t n_tokens, int64_t n, float* y, Readers readers = {}) = 0;

    // y [T, n_out] from x [T, n_in]: v = W x (+ bias), then the epilogue.
    virtual void matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y,
                        Epilogue epilogue, const Weight& bias = {}, Readers readers = {}) = 0;

    // Depthwise causal convolution over time, bias, SiLU. xbc: [T, conv_dim] with x_stride; weight:
    // [conv_dim, K], tap K-1 meets the current token; state: the previous K-1 inputs, oldest first,
    // [K-1, conv_dim], updated unless keep_state is false; y: [T, conv_dim].
    virtual void conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                           const Weight& weight, const Weight& bias, float* state, int64_t n_tokens,
                           float* y, bool keep_state = true) = 0;

    // Per head h with group g = h / (H/G): dt = softplus(dt + dt_bias) (identity above 20);
    // S = exp(dt*a) S + dt * x B^T; y = S C + d x.
    virtual void ssm_scan(const SsmScan& scan) = 0;

    // y = RMSNorm over each of n_groups equal parts of (y * silu(z)), times weight [n]. z: [T, n]
    // with z_stride. In place.
    virtual void gated_group_norm(float* y, const float* z, int64_t z_stride, const Weight& weight,
                                  float eps, int64_t n_tokens, int64_t n, int64_t n_groups,
                                  Readers readers = {}) = 0;

    // Turns every head of x [T, n_heads, head_dim] to the token's position, in place; that of the
    // first is `position`.
    virtual void rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim,
                      int64_t position, int64_t n_tokens, float* x) = 0;

    // Writes the K or V rows [n_tokens, n_kv_heads * head_dim] of tokens `position` ... into a
    // cache.
    virtual void kv_append(const float* rows, int64_t n_tokens, int64_t position,
                           const KvCache& cache) = 0;

    // Causal grouped-query attention on Q and K as they are (see rope): query t sees cache rows [0,
    // position + t], scale head_dim^-1/2, softmax in fp32. q, y: [T, q_dim].
    virtual void attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                           const KvCache& values, int64_t position, int64_t n_tokens, float* y) = 0;

    // r = sigmoid(logits); the top-k of r + bias (after group masking) are chosen, their weight is
    // r, normalized and scaled. Ties go to the lower id. logits: [T, n_experts]; ids, weights: [T,
    // n_used].
    virtual void route(const RouterShape& shape, const float* logits, const Weight& bias,
                       int64_t n_tokens, int32_t* ids, float* weights) = 0;

    // y [T, L] = sum over the used experts of weight * down_e(relu2(up_e(x))). up: {L, F,
    // n_experts}, down: {F, L, n_experts}; x: [T, L].
    virtual void experts(const Weight& up, const Weight& down, const RouterShape& shape,
                         const int32_t* ids, const float* weights, const float* x, int64_t n_tokens,
                         float* y) = 0;

    // y += x, n values.
    virtual void add(const float* x, int64_t n, float* y) = 0;

    virtual void copy(const float* from, int64_t n, float* to) = 0;

    // x = 0, n values. On fresh memory too: what is then read and rewritten piece by piece, as a
    // recurrent state, has its pages already.
    virtual void clear(float* x, int64_t n) = 0;
};

// n_threads = 0: one per core. The instruction tier is the best the processor has, or the one
// forced by NEMO_CPU (core/environment.h).
std::unique_ptr<Backend> make_cpu_backend(int n_threads);

}  // namespace nemo
