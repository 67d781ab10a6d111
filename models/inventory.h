// The tensors a model consists of, as data: the one list that the loader binds and the converter
// writes, so the two cannot disagree.
#pragma once

#include "core/tensor.h"
#include "models/config.h"

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace nemo {

enum class TensorRole {
    token_embedding,
    output,
    norm,  // also the final one
    norm_bias,
    ssm_in,
    ssm_conv_weight,
    ssm_conv_bias,
    ssm_dt_bias,
    ssm_a,
    ssm_d,
    ssm_norm,
    ssm_out,
    attn_q,
    attn_k,
    attn_v,
    attn_output,
    ffn_up,
    ffn_down,
    router,
    router_bias,
    experts_up,
    experts_down,
    shared_up,
    shared_down,
    latent_down,
    latent_up,
    // Of a prediction block, beside its attention and expert tensors:
    prediction_token_norm,
    prediction_hidden_norm,
    prediction_in,    // [token, hidden] -> the block's input
    prediction_norm,  // between attention and experts
    prediction_head_norm,
    scale,  // of an NVFP4 tensor: see scale_name(); never in an inventory
    other,  // none of these: kept as a file has it
};

struct TensorSpec {
    TensorRole role;
    int layer;                    // of ModelConfig::layers, -1: outside of them
    int block;                    // N in blk.N.*, -1: outside the blocks
    std::string name;             // GGUF name
    std::array<int64_t, 4> dims;  // GGUF order, unused dims 1
    int n_dims;
    // Kept in F32 whatever the file's type (norms, convolution, router, per-head vectors):
    // llama.cpp requires it and they are small.
    bool always_f32;

    int64_t n_elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
    bool is_prediction() const { return layer < 0 && block >= 0; }
};

// What the names of a layer's tensors start with, "blk.3.", and its norm, "blk.3.attn_norm". The
// first layer of a block has the attn_norm, whatever its kind, a second one the ffn_norm.
std::string block_prefix(const ModelConfig& config, size_t layer);
std::string norm_name(const ModelConfig& config, size_t layer);

// In file order: embeddings, layers, prediction blocks, final norm, head (absent when tied).
std::vector<TensorSpec> tensor_inventory(const ModelConfig& config);

// The last Mamba-2 layer before each attention layer: what it writes is what attention looks at.
std::set<int> layers_before_attention(std::span<const TensorSpec> inventory);

// What keeps a file's tensor (nullptr: there is none) from being `spec`, for messages; empty:
// nothing.
std::string tensor_problem(const TensorSpec& spec, const TensorView* tensor);

// What a tensor is in whatever layer: "blk.3.ssm_in.weight" -> "ssm_in".
std::string tensor_stem(const std::string& tensor_name);

// The name of the tensor that holds the factors of an NVFP4 tensor, one per matrix.
std::string scale_name(const std::string& tensor_name);
// Whether llama.cpp applies such factors to this kind of tensor; where it does not it refuses the
// file.
bool takes_scale(TensorRole role);

}  // namespace nemo
