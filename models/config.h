// What a model is: its dimensions, read from GGUF keys or from a checkpoint's config.json
// (convert/), checked once. Kind and dimensions are per layer, since pruned family members vary
// from layer to layer.
#pragma once

#include "core/gguf.h"
#include "core/model_file.h"
#include "kernels/backend.h"

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

namespace nemo {

enum class LayerKind { mamba2, attention, mlp, moe };
const char* layer_kind_name(LayerKind kind);

struct MoeShape {
    RouterShape router;
    int64_t n_ff = 0;         // width of one routed expert
    int64_t n_ff_shared = 0;  // total width of the shared expert, 0: none
    int64_t n_latent = 0;     // experts work in this many dimensions, 0: on the hidden state itself
};

// Each: norm, mixer, residual. Only the part that belongs to `kind` is meaningful.
struct LayerConfig {
    LayerKind kind = LayerKind::mlp;
    Mamba2Shape mamba2;
    AttentionShape attention;
    int64_t n_ff = 0;
    MoeShape moe;
};

enum class NormKind {
    rms,    // x / sqrt(mean(x^2) + eps) * weight
    layer,  // (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias
};

// A multi-token prediction head: one block of the file behind the layers, an attention and an
// expert part that draft the token after next. Kept for programs that draft with it; nemo does not
// run it.
struct PredictionBlock {
    AttentionShape attention;
    MoeShape moe;
};

struct ModelConfig {
    std::string architecture;  // as GGUF names it: "nemotron_h", "nemotron_h_moe", "nemotron"
    std::string name;
    int64_t n_vocab = 0;
    int64_t n_embd = 0;
    int64_t n_context = 0;  // trained context length, a hint only
    NormKind norm = NormKind::rms;
    float norm_eps = 1e-5f;
    bool tied_embeddings = false;  // the head is the embedding table
    std::vector<LayerConfig> layers;
    std::vector<PredictionBlock> prediction_blocks;
    // The file numbers blocks, blk.0, blk.1, ...: a block of a plain Transformer is two layers
    // here. Prediction blocks are the last ones.
    int64_t layers_per_block = 1;

    int64_t n_blocks() const {
        return std::ssize(layers) / layers_per_block + std::ssize(prediction_blocks);
    }

    bool has_moe() const;
    int64_t n_layers(LayerKind kind) const;
};

// What each layer and then each prediction block has of a kind, nullptr where it has none. Points
// into the configuration.
struct BlockShapes {
    explicit BlockShapes(const ModelConfig& config);

    std::vector<const Mamba2Shape*> mamba2;
    std::vector<const AttentionShape*> attention;
    std::vector<const MoeShape*> moe;
};

// Throws Error{bad_file} naming the source, the field and the value if a number is out of range or
// two disagree (heads not a multiple of groups, ...).
void check_config(const ModelConfig& config, const std::string& source);

// The part of check_config that must come before layers are made from a number in a file.
void check_block_count(int64_t n_blocks, const std::string& source);

// Reads the architecture's keys, and looks at the tensors for what they leave open: vocabulary
// size, tied head, and whether a feed-forward layer of a MoE model is dense.
ModelConfig config_from_gguf(const ModelFile& file);

// Adds `general.architecture` and the architecture's keys.
void add_config_metadata(const ModelConfig& config, GgufMetadata& metadata);

}  // namespace nemo
