#include "convert/llama_cpp.h"

#include <fmt/core.h>

#include <functional>

namespace nemo {

namespace {

// Whether all layers of the kind agree on a dimension.
template <class Get>
bool agree(const ModelConfig& config, LayerKind kind, Get get) {
    const LayerConfig* first = nullptr;
    for (const LayerConfig& layer : config.layers) {
        if (layer.kind != kind) continue;
        if (first == nullptr) first = &layer;
        if (std::invoke(get, layer) != std::invoke(get, *first)) return false;
    }
    return true;
}

// Of the experts, what llama.cpp reads per layer, but only since that was added for Puzzle models.
bool has_varying_experts(const ModelConfig& config) {
    return !agree(config, LayerKind::moe, [](const LayerConfig& l) { return l.moe.n_ff; }) ||
           !agree(config, LayerKind::moe, [](const LayerConfig& l) { return l.moe.router.n_used; });
}

// The dimensions that llama.cpp knows as one number for the model.
std::string varying_dimensions(const ModelConfig& config) {
    std::string names;
    const auto check = [&](const char* name, LayerKind kind, auto get) {
        if (!agree(config, kind, get)) names += (names.empty() ? "" : ", ") + std::string(name);
    };
    using Layer = const LayerConfig&;
    check("Mamba heads", LayerKind::mamba2, [](Layer l) { return l.mamba2.n_heads; });
    check("Mamba head size", LayerKind::mamba2, [](Layer l) { return l.mamba2.head_dim; });
    check("Mamba state size", LayerKind::mamba2, [](Layer l) { return l.mamba2.state_size; });
    check("Mamba groups", LayerKind::mamba2, [](Layer l) { return l.mamba2.n_groups; });
    check("convolution width", LayerKind::mamba2, [](Layer l) { return l.mamba2.conv_kernel; });
    check("attention head size", LayerKind::attention,
          [](Layer l) { return l.attention.head_dim; });
    check("number of experts", LayerKind::moe, [](Layer l) { return l.moe.router.n_experts; });
    check("expert groups", LayerKind::moe, [](Layer l) { return l.moe.router.n_groups; });
    check("used expert groups", LayerKind::moe, [](Layer l) { return l.moe.router.n_groups_used; });
    check("shared expert width", LayerKind::moe, [](Layer l) { return l.moe.n_ff_shared; });
    check("latent size", LayerKind::moe, [](Layer l) { return l.moe.n_latent; });
    return names;
}

}  // namespace

std::vector<std::string> llama_cpp_limits(const ModelConfig& config) {
    std::vector<std::string> limits;
    if (config.has_moe() && config.n_layers(LayerKind::mlp) > 0)
        limits.push_back("llama.cpp cannot load this model: it has experts and dense MLP layers");
    if (const std::string names = varying_dimensions(config); !names.empty())
        limits.push_back(fmt::format(
            "llama.cpp cannot load this model: layers differ in what it knows as one number ({})",
            names));
    else if (has_varying_experts(config))
        limits.push_back(
            "llama.cpp of before September 2026 cannot load this model: the experts' width or the "
            "number of used experts differs between layers");
    return limits;
}

}  // namespace nemo
