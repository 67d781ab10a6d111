// The inner loops of the CPU kernels: one table of functions per instruction tier.
//
// The bodies lie in tier_*.inl, written once over vectors of 16 lanes, and are compiled once per
// tier by tier_scalar.cpp, tier_avx2.cpp and tier_avx512.cpp. Those files export their table and
// nothing else, and include no STL: an inline function emitted there with AVX-512 code could be the
// copy that the linker picks for the whole program (tests/kernels/test_tier_symbols.cpp looks).
//
// Rules: single-threaded, no allocation, no alignment needed. Each output is reduced in an order
// that depends on nothing but its own length. Tiers differ from each other in fused multiply-adds
// only; integer sums and the int8 codes of activations are the same in all.
#pragma once

#include <cstdint>

namespace nemo {

// 64 activations as int8, for dot products with quantized weights: two blocks of 32, each with its
// own scale. What belongs to block 0 fills lanes 0-7, block 1 fills lanes 8-15; past the end all is
// zero.
struct ActivationPair {
    float scale[16];
    // -offset * sum of the four codes 4*lane ... 4*lane+3: corrects weights that are stored plus
    // offset.
    int32_t bias[16];
    int8_t codes[64];
};

// tile[t * tile_stride + r] = dot(row r, x[t]) for all r and t.
struct DotJob {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t n;  // elements per row
    const void* const*
        x;  // one per token: float[n] or, for quantized rows, ActivationPair[(n+63)/64]
    int64_t n_tokens;
    float* tile;
    int64_t tile_stride;
};

// Channels [begin, end) of the causal convolution with SiLU (Backend::conv_silu).
struct ConvJob {
    const float* x;  // [T, conv_dim] with x_stride
    int64_t x_stride;
    const float* weight;  // [conv_dim, K]
    const float* bias;    // [conv_dim] or null
    float* state;         // [K-1, conv_dim]
    float* y;             // [T, conv_dim]
    float* taps;          // scratch, K * (end - begin)
    int64_t conv_dim;
    int64_t conv_kernel;
    int64_t n_tokens;
    int64_t begin;
    int64_t end;
};

// One head of the Mamba-2 recurrence (Backend::ssm_scan).
struct ScanJob {
    const float* x;  // [T, P], rows xbc_stride apart, as those of b and c [T, N]
    const float* b;
    const float* c;
    int64_t xbc_stride;
    const float* dt;     // [T], after softplus
    const float* decay;  // [T], exp(dt * a)
    float d;
    float* state;  // [N, P]
    float* y;      // [T, P] with y_stride
    int64_t y_stride;
    int64_t state_size;  // N
    int64_t head_dim;    // P
    int64_t n_tokens;
};

struct TierOps {
    using Dot = void (*)(const DotJob& job);
    Dot dot_f32;
    Dot dot_f16;
    Dot dot_bf16;
    Dot dot_q8_0;  // activations with offset 128
    Dot dot_q4_0;  // activations with offset 8

    // n is a multiple of 32; y has (n + 63) / 64 elements.
    void (*quantize)(const float* x, int64_t n, int32_t offset, ActivationPair* y);

    void (*conv_silu)(const ConvJob& job);
    void (*scan)(const ScanJob& job);

    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                       float* y);
    // y = rms_norm(y * silu(z)) * weight.
    void (*gated_norm)(float* y, const float* z, const float* weight, int64_t n, float eps);

    // x = exp(x - max) / sum of the same.
    void (*softmax)(float* x, int64_t n);
    // y [n_columns] += sum over i of weights[i] * rows[i], in the order of i.
    void (*weighted_sum)(const float* weights, const float* rows, int64_t row_stride,
                         int64_t n_rows, int64_t n_columns, float* y);
};

extern const TierOps kScalarOps;
extern const TierOps kAvx2Ops;
extern const TierOps kAvx512Ops;

}  // namespace nemo
