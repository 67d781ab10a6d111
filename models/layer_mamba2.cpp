// The Mamba-2 mixer: in_proj -> causal convolution -> selective scan -> gated group norm ->
// out_proj.
#include "models/layers.h"

namespace nemo {

void mamba2_layer(const LayerInput& in, const Mamba2Shape& shape, const Mamba2Weights& weights,
                  float* conv_state, float* ssm_state, int64_t state_offset) {
    const int64_t d_inner = shape.d_inner();
    const int64_t stride = shape.in_proj_dim();

    float* projection = in.work.get(Scratch::projection, in.n_tokens * stride);
    in.backend.matmul(weights.in_proj, in.h, in.n_tokens, projection, Epilogue::store);
    const float* z = projection;                   // [T, d_inner]
    const float* xbc_raw = z + d_inner;            // [T, conv_dim]
    const float* dt = xbc_raw + shape.conv_dim();  // [T, H]

    float* xbc = in.work.get(Scratch::convolved, in.n_tokens * shape.conv_dim());
    float* y = in.work.get(Scratch::mixed, in.n_tokens * d_inner);
    // The recurrence stops at every capture; what comes before and after needs no stop.
    const auto advance = [&](int64_t first, int64_t n_tokens) {
        float* xbc_first = xbc + first * shape.conv_dim();
        in.backend.conv_silu(shape, xbc_raw + first * stride, stride, weights.conv_weight,
                             weights.conv_bias, conv_state, n_tokens, xbc_first);
        in.backend.ssm_scan({.shape = shape,
                             .xbc = xbc_first,
                             .dt = dt + first * stride,
                             .dt_stride = stride,
                             .a = weights.a.f32(),
                             .d = weights.d.f32(),
                             .dt_bias = weights.dt_bias.f32(),
                             .state = ssm_state,
                             .y = y + first * d_inner,
                             .n_tokens = n_tokens});
    };
    int64_t n_done = 0;
    for (const StateCapture& capture : in.captures) {
        if (capture.n_tokens > n_done) advance(n_done, capture.n_tokens - n_done);
        n_done = capture.n_tokens;
        in.backend.copy(conv_state, shape.conv_state_size() + shape.ssm_state_size(),
                        capture.recurrent + state_offset);
    }
    if (n_done < in.n_tokens) advance(n_done, in.n_tokens - n_done);

    in.backend.gated_group_norm(y, z, stride, weights.norm, in.norm_eps, in.n_tokens, d_inner,
                                shape.n_groups);
    in.backend.matmul(weights.out_proj, y, in.n_tokens, in.x, Epilogue::add);
}

}  // namespace nemo
