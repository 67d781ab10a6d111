// A backend that passes every operation on to another and measures it: time, bytes that the
// operation cannot but move (weights, cache rows, recurrent state), and arithmetic.
#pragma once

#include "kernels/backend.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nemo {

struct OpTime {
    std::string name;  // the operation's, or the stem of a matrix product's weight: "ffn_up"
    int64_t n_calls = 0;
    double seconds = 0;
    double n_bytes = 0;
    double n_weight_bytes = 0;  // those of them that are weights of products
    double n_operations = 0;    // multiplications and additions
};

class TimedBackend final : public Backend {
public:
    explicit TimedBackend(Backend& inner) : inner_(inner) {}

    // Off at first: then operations are passed on only.
    void set_timing(bool on) { timing_ = on; }
    // In the order of their first call.
    const std::vector<OpTime>& times() const { return times_; }
    void clear() { times_.clear(); }

    void set_observer(MatmulObserver* observer) override { inner_.set_observer(observer); }
    Weight upload(const TensorView& view, const TensorView* scale) override;
    FloatBuffer alloc(int64_t n_floats) override;
    void sync() override;
    void embed(const Weight& table, std::span<const int32_t> tokens, float* y) override;
    void rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens, int64_t n,
                  float* y, Readers readers) override;
    void layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                    int64_t n_tokens, int64_t n, float* y, Readers readers) override;
    void rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
              int64_t n_tokens, float* x) override;
    void matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y, Epilogue epilogue,
                const Weight& bias, Readers readers) override;
    void conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                   const Weight& weight, const Weight& bias, float* state, int64_t n_tokens,
                   float* y, bool keep_state) override;
    void ssm_scan(const SsmScan& scan) override;
    void gated_group_norm(float* y, const float* z, int64_t z_stride, const Weight& weight,
                          float eps, int64_t n_tokens, int64_t n, int64_t n_groups,
                          Readers readers) override;
    void kv_append(const float* rows, int64_t n_tokens, int64_t position,
                   const KvCache& cache) override;
    void attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                   const KvCache& values, int64_t position, int64_t n_tokens, float* y) override;
    void route(const RouterShape& shape, const float* logits, const Weight& bias, int64_t n_tokens,
               int32_t* ids, float* weights) override;
    void experts(const Weight& up, const Weight& down, const RouterShape& shape, const int32_t* ids,
                 const float* weights, const float* x, int64_t n_tokens, float* y) override;
    void add(const float* x, int64_t n, float* y) override;
    void copy(const float* from, int64_t n, float* to) override;
    void clear(float* x, int64_t n) override;

private:
    // What its bytes are.
    enum class Moves { other, weights };
    template <class Run>
    void measure(const std::string& name, double n_bytes, double n_operations, const Run& run,
                 Moves moves = Moves::other);

    Backend& inner_;
    bool timing_ = false;
    std::vector<OpTime> times_;
};

}  // namespace nemo
