// What the inner loops of a Mamba-2 layer are given; see kernels/cpu/tier.h.
#pragma once

#include <cstdint>

namespace nemo {

// Tokens [first_token, + n_tokens) of channels [begin, end) of the causal convolution with SiLU
// (Backend::conv_silu).
struct ConvJob {
    const float* x;  // [T, conv_dim] with x_stride
    int64_t x_stride;
    const float* weight;  // [conv_dim, K]
    const float* bias;    // [conv_dim] or null
    const float* state;   // [K-1, conv_dim]
    float* y;             // [T, conv_dim]
    float* taps;          // scratch, 16 K
    int64_t conv_dim;
    int64_t conv_kernel;
    int64_t first_token;
    int64_t n_tokens;
    int64_t begin;
    int64_t end;
};

// How far each token moves the recurrence of one head: dt = softplus(dt + dt_bias), decay = exp(dt
// a).
struct ScanStepsJob {
    float* dt;     // [n_tokens], in place
    float* decay;  // [n_tokens]
    int64_t n_tokens;
    float dt_bias;
    float a;
};

// One head of the Mamba-2 recurrence (Backend::ssm_scan).
struct ScanJob {
    const float* x;  // [T, P] with x_stride
    int64_t x_stride;
    const float* b;  // [T, N] with bc_stride, as c
    const float* c;
    int64_t bc_stride;
    const float* dt;     // [T], after softplus
    const float* decay;  // [T]
    float d;
    float* state;  // [N, P]
    float* y;      // [T, P] with y_stride
    int64_t y_stride;
    int64_t state_size;  // N
    int64_t head_dim;    // P
    int64_t n_tokens;
};

}  // namespace nemo
