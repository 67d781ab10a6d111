#include "convert/llama_cpp.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

namespace nemo {

namespace {

// Whether all blocks that have such a shape agree on a dimension of it.
template <class Shape, class Get>
bool agree(const std::vector<const Shape*>& blocks, Get get) {
    const Shape* first = nullptr;
    for (const Shape* block : blocks) {
        if (block == nullptr) continue;
        if (first == nullptr) first = block;
        if (std::invoke(get, *block) != std::invoke(get, *first)) return false;
    }
    return true;
}

// The dimensions that llama.cpp knows as one number for the model.
std::string varying_dimensions(const BlockShapes& blocks) {
    std::string names;
    const auto check = [&](const char* name, const auto& shapes, auto get) {
        if (!agree(shapes, get)) names += (names.empty() ? "" : ", ") + std::string(name);
    };
    using Moe = const MoeShape&;
    check("Mamba heads", blocks.mamba2, &Mamba2Shape::n_heads);
    check("Mamba head size", blocks.mamba2, &Mamba2Shape::head_dim);
    check("Mamba state size", blocks.mamba2, &Mamba2Shape::state_size);
    check("Mamba groups", blocks.mamba2, &Mamba2Shape::n_groups);
    check("convolution width", blocks.mamba2, &Mamba2Shape::conv_kernel);
    check("attention head size", blocks.attention, &AttentionShape::head_dim);
    check("number of experts", blocks.moe, [](Moe moe) { return moe.router.n_experts; });
    check("expert groups", blocks.moe, [](Moe moe) { return moe.router.n_groups; });
    check("used expert groups", blocks.moe, [](Moe moe) { return moe.router.n_groups_used; });
    check("shared expert width", blocks.moe, &MoeShape::n_ff_shared);
    check("latent size", blocks.moe, &MoeShape::n_latent);
    return names;
}

// What only newer versions of llama.cpp load: per-layer experts came with Puzzle models, latent
// projections in the prediction head somewhat later (build b11025).
std::string recent_features(const ModelConfig& config, const BlockShapes& blocks) {
    std::string names;
    const auto add = [&](const char* name) {
        names += (names.empty() ? "" : " and ") + std::string(name);
    };
    if (!agree(blocks.moe, &MoeShape::n_ff) ||
        !agree(blocks.moe, [](const MoeShape& moe) { return moe.router.n_used; }))
        add("experts that differ between layers");
    if (std::ranges::any_of(config.prediction_blocks,
                            [](const PredictionBlock& block) { return block.moe.n_latent > 0; }))
        add("a prediction head with latent projections (--no-mtp leaves it out)");
    return names;
}

// Of architecture nemotron, where llama.cpp derives dimensions from others.
std::vector<std::string> nemotron_limits(const ModelConfig& config, const BlockShapes& blocks) {
    std::vector<std::string> limits;
    if (config.tied_embeddings)
        limits.push_back(
            "llama.cpp cannot load this model: its head is the embedding table, but for the "
            "architecture nemotron llama.cpp needs a tensor output.weight");
    for (const AttentionShape* attention : blocks.attention) {
        if (attention == nullptr || attention->q_dim() == config.n_embd) continue;
        limits.push_back(fmt::format(
            "llama.cpp cannot load this model: {} attention heads of size {} make {}, but for the "
            "architecture nemotron llama.cpp needs the hidden size, {}",
            attention->n_heads, attention->head_dim, attention->q_dim(), config.n_embd));
        break;
    }
    return limits;
}

}  // namespace

std::vector<std::string> llama_cpp_limits(const ModelConfig& config) {
    std::vector<std::string> limits;
    const BlockShapes blocks(config);
    if (config.architecture == "nemotron") limits = nemotron_limits(config, blocks);
    if (config.has_moe() && config.n_layers(LayerKind::mlp) > 0)
        limits.push_back("llama.cpp cannot load this model: it has experts and dense MLP layers");
    if (const std::string names = varying_dimensions(blocks); !names.empty())
        limits.push_back(fmt::format(
            "llama.cpp cannot load this model: layers differ in what it knows as one number ({})",
            names));
    else if (const std::string features = recent_features(config, blocks); !features.empty())
        limits.push_back(fmt::format(
            "llama.cpp of before late September 2026 cannot load this model: it has {}", features));
    return limits;
}

}  // namespace nemo
