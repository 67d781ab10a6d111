// A backend that fails at a chosen operation: what happens to a session when memory runs out or a
// device is lost in the middle of a token.
#pragma once

#include "core/error.h"
#include "kernels/backend.h"

#include <utility>

namespace nemo {

class FailingBackend : public Backend {
public:
    explicit FailingBackend(Backend& inner) : inner_(inner) {}

    // The next `n` operations work, the one after them throws, and then all work again.
    void fail_after(int64_t n) { n_left_ = n; }
    // True if a failure was still to come.
    bool be_well() { return std::exchange(n_left_, -1) >= 0; }

    void set_observer(MatmulObserver* observer) override { inner_.set_observer(observer); }
    Weight upload(const TensorView& view, const TensorView* scale) override {
        return inner_.upload(view, scale);
    }
    FloatBuffer alloc(int64_t n_floats) override {
        count();
        return inner_.alloc(n_floats);
    }
    void sync() override {
        count();
        inner_.sync();
    }
    void embed(const Weight& table, std::span<const int32_t> tokens, float* y) override {
        count();
        inner_.embed(table, tokens, y);
    }
    void rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens, int64_t n,
                  float* y, Readers readers) override {
        count();
        inner_.rms_norm(x, weight, eps, n_tokens, n, y, readers);
    }
    void layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                    int64_t n_tokens, int64_t n, float* y, Readers readers) override {
        count();
        inner_.layer_norm(x, weight, bias, eps, n_tokens, n, y, readers);
    }
    void matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y, Epilogue epilogue,
                const Weight& bias, Readers readers) override {
        count();
        inner_.matmul(weight, x, n_tokens, y, epilogue, bias, readers);
    }
    void conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                   const Weight& weight, const Weight& bias, float* state, int64_t n_tokens,
                   float* y, bool keep_state) override {
        count();
        inner_.conv_silu(shape, xbc, x_stride, weight, bias, state, n_tokens, y, keep_state);
    }
    void ssm_scan(const SsmScan& scan) override {
        count();
        inner_.ssm_scan(scan);
    }
    void gated_group_norm(float* y, const float* z, int64_t z_stride, const Weight& weight,
                          float eps, int64_t n_tokens, int64_t n, int64_t n_groups,
                          Readers readers) override {
        count();
        inner_.gated_group_norm(y, z, z_stride, weight, eps, n_tokens, n, n_groups, readers);
    }
    void rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
              int64_t n_tokens, float* x) override {
        count();
        inner_.rope(rotary, n_heads, head_dim, position, n_tokens, x);
    }
    void kv_append(const float* rows, int64_t n_tokens, int64_t position,
                   const KvCache& cache) override {
        count();
        inner_.kv_append(rows, n_tokens, position, cache);
    }
    void attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                   const KvCache& values, int64_t position, int64_t n_tokens, float* y) override {
        count();
        inner_.attention(shape, q, keys, values, position, n_tokens, y);
    }
    void route(const RouterShape& shape, const float* logits, const Weight& bias, int64_t n_tokens,
               int32_t* ids, float* weights) override {
        count();
        inner_.route(shape, logits, bias, n_tokens, ids, weights);
    }
    void experts(const Weight& up, const Weight& down, const RouterShape& shape, const int32_t* ids,
                 const float* weights, const float* x, int64_t n_tokens, float* y) override {
        count();
        inner_.experts(up, down, shape, ids, weights, x, n_tokens, y);
    }
    void add(const float* x, int64_t n, float* y) override {
        count();
        inner_.add(x, n, y);
    }
    void copy(const float* from, int64_t n, float* to) override {
        count();
        inner_.copy(from, n, to);
    }
    void clear(float* x, int64_t n) override {
        count();
        inner_.clear(x, n);
    }

private:
    void count() {
        if (n_left_ < 0 || n_left_-- > 0) return;
        fail(ErrorCode::out_of_memory, "as ordered");
    }

    Backend& inner_;
    int64_t n_left_ = -1;
};

}  // namespace nemo
