// The Mamba-2 mixer: in_proj -> causal convolution -> selective scan -> gated group norm ->
// out_proj.
#include "models/layers.h"

namespace nemo {

namespace {

// Convolution and scan of n_tokens tokens. Where they lie:
struct Recurrence {
    const float* xbc_raw;  // [T, conv_dim], rows `stride` apart, as dt
    const float* dt;       // [T, H]
    int64_t stride;
    int64_t n_tokens;
    float* conv_state;
    float* ssm_state;
    bool keep_state;
    float* xbc;  // [T, conv_dim]
    float* y;    // [T, d_inner]
};

void run(Backend& backend, const Mamba2Shape& shape, const Mamba2Weights& weights,
         const Recurrence& r) {
    backend.conv_silu(shape, r.xbc_raw, r.stride, weights.conv_weight, weights.conv_bias,
                      r.conv_state, r.n_tokens, r.xbc, r.keep_state);
    backend.ssm_scan({.shape = shape,
                      .xbc = r.xbc,
                      .dt = r.dt,
                      .dt_stride = r.stride,
                      .a = weights.a.f32(),
                      .d = weights.d.f32(),
                      .dt_bias = weights.dt_bias.f32(),
                      .state = r.ssm_state,
                      .y = r.y,
                      .n_tokens = r.n_tokens,
                      .keep_state = r.keep_state});
}

}  // namespace

void mamba2_layer(const LayerInput& in, const Mamba2Shape& shape, const Mamba2Weights& weights,
                  float* conv_state, float* ssm_state, int64_t state_offset) {
    const int64_t d_inner = shape.d_inner();
    const int64_t stride = shape.in_proj_dim();

    float* projection = in.work.get(Scratch::projection, in.n_tokens * stride);
    in.backend.matmul(weights.in_proj, in.normed({&weights.in_proj}), in.n_tokens, projection,
                      Epilogue::store);
    const float* z = projection;                   // [T, d_inner]
    const float* xbc_raw = z + d_inner;            // [T, conv_dim]
    const float* dt = xbc_raw + shape.conv_dim();  // [T, H]

    float* xbc = in.work.get(Scratch::convolved, in.n_tokens * shape.conv_dim());
    float* y = in.work.get(Scratch::mixed, in.n_tokens * d_inner);
    // The recurrence stops at every capture; what comes before and after needs no stop.
    const auto advance = [&](int64_t first, int64_t n_tokens) {
        run(in.backend, shape, weights,
            {.xbc_raw = xbc_raw + first * stride,
             .dt = dt + first * stride,
             .stride = stride,
             .n_tokens = n_tokens,
             .conv_state = conv_state,
             .ssm_state = ssm_state,
             .keep_state = in.draft_rows == nullptr,
             .xbc = xbc + first * shape.conv_dim(),
             .y = y + first * d_inner});
    };
    if (in.draft_rows != nullptr) {
        const int64_t row_size = DraftInputs::row_size(shape);
        for (int64_t t = 0; t < in.n_tokens; ++t)
            in.backend.copy(xbc_raw + t * stride, row_size, in.draft_rows + t * row_size);
    }
    int64_t n_done = 0;
    for (const StateCapture& capture : in.captures) {
        if (capture.n_tokens > n_done) advance(n_done, capture.n_tokens - n_done);
        n_done = capture.n_tokens;
        in.backend.copy(conv_state, shape.conv_state_size() + shape.ssm_state_size(),
                        capture.recurrent + state_offset);
    }
    if (n_done < in.n_tokens) advance(n_done, in.n_tokens - n_done);

    in.backend.gated_group_norm(y, z, stride, weights.norm, in.norm_eps, in.n_tokens, d_inner,
                                shape.n_groups, {&weights.out_proj});
    in.backend.matmul(weights.out_proj, y, in.n_tokens, in.x, Epilogue::add);
}

void mamba2_take_in(Backend& backend, Workspace& work, const Mamba2Shape& shape,
                    const Mamba2Weights& weights, const float* draft_rows, int64_t n_tokens,
                    float* conv_state, float* ssm_state) {
    run(backend, shape, weights,
        {.xbc_raw = draft_rows,
         .dt = draft_rows + shape.conv_dim(),
         .stride = DraftInputs::row_size(shape),
         .n_tokens = n_tokens,
         .conv_state = conv_state,
         .ssm_state = ssm_state,
         .keep_state = true,
         .xbc = work.get(Scratch::convolved, n_tokens * shape.conv_dim()),
         .y = work.get(Scratch::mixed, n_tokens * shape.d_inner())});
}

}  // namespace nemo
