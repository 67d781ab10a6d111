// The layer kinds: those of the Nemotron-H family (arXiv 2504.03624), of which a plain Transformer
// needs two. Each takes in a chunk of T tokens of the residual stream and adds its result to it:
// x += mixer(norm(x)).
#pragma once

#include "kernels/backend.h"
#include "models/config.h"
#include "models/draft_inputs.h"
#include "models/sequence_state.h"
#include "models/workspace.h"

#include <cstdint>
#include <span>
#include <variant>

namespace nemo {

struct Linear {
    Weight weight;
    Weight bias;  // optional
};

struct Mamba2Weights {
    Weight in_proj;
    Weight conv_weight;
    Weight conv_bias;
    Weight dt_bias;
    Weight a;  // -exp(A_log), as GGUF stores it
    Weight d;
    Weight norm;
    Weight out_proj;
};

struct AttentionWeights {
    Linear q, k, v, output;
};

struct MlpWeights {
    Linear up, down;
};

struct MoeWeights {
    Weight router;
    Weight router_bias;
    Weight latent_down, latent_up;    // optional, together
    Weight experts_up, experts_down;  // {in, ff, n_experts}, {ff, in, n_experts}
    Weight shared_up, shared_down;    // optional, together
};

struct NormWeights {
    Weight weight;
    Weight bias;  // of a LayerNorm
};
void apply_norm(Backend& backend, NormKind kind, const NormWeights& weights, float eps,
                const float* x, int64_t n_tokens, int64_t n, float* y, Readers readers = {});

struct LayerWeights {
    NormWeights norm;
    std::variant<Mamba2Weights, AttentionWeights, MlpWeights, MoeWeights> mixer;
};

// What a layer of one call works on.
struct LayerInput {
    Backend& backend;
    Workspace& work;
    const NormWeights& norm;
    NormKind norm_kind;
    float norm_eps;
    int64_t n_embd;                          // E
    float* x;                                // [T, E] residual stream, updated
    int64_t n_tokens;                        // T
    int64_t position;                        // of the first token
    std::span<const StateCapture> captures;  // by position
    // Not null: the tokens are looked at and not taken in. A recurrent layer leaves its state as it
    // is and writes here what mamba2_take_in needs, [T, DraftInputs::row_size].
    float* draft_rows = nullptr;

    // norm(x) [T, E], before x changes; `readers` as for Backend::rms_norm.
    const float* normed(Readers readers) const;
};

// conv_state: [K-1, conv_dim]; ssm_state: [H, N, P], right behind it; both updated, and copied to
// in.captures, where the layer's part starts at `state_offset`.
void mamba2_layer(const LayerInput& in, const Mamba2Shape& shape, const Mamba2Weights& weights,
                  float* conv_state, float* ssm_state, int64_t state_offset);

// Updates the states as the layer would have if it had taken in the first `n_tokens` tokens of what
// it wrote to `draft_rows`.
void mamba2_take_in(Backend& backend, Workspace& work, const Mamba2Shape& shape,
                    const Mamba2Weights& weights, const float* draft_rows, int64_t n_tokens,
                    float* conv_state, float* ssm_state);

// T rows are written to keys and values at `position`.
void attention_layer(const LayerInput& in, const AttentionShape& shape,
                     const AttentionWeights& weights, const KvCache& keys, const KvCache& values);

void mlp_layer(const LayerInput& in, int64_t n_ff, const MlpWeights& weights);

void moe_layer(const LayerInput& in, const MoeShape& shape, const MoeWeights& weights);

}  // namespace nemo
