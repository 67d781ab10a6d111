#include "models/config.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>

namespace nemo {

namespace {

constexpr int64_t kMaxBlocks = 512;  // llama.cpp's limit too
constexpr int64_t kMaxExperts = 1024;
constexpr int64_t kMaxDim = int64_t{1} << 24;

class Checker {
public:
    explicit Checker(const std::string& source) : source_(source) {}

    void in_range(std::string_view field, int64_t value, int64_t low, int64_t high) const {
        if (value < low || value > high)
            fail(ErrorCode::bad_file, "{}: {} is {}, but {} to {} is supported", source_, field,
                 value, low, high);
    }

    void multiple(std::string_view field, int64_t value, std::string_view of,
                  int64_t divisor) const {
        if (value % divisor != 0)
            fail(ErrorCode::bad_file, "{}: {} is {}, which is not a multiple of {} = {}", source_,
                 field, value, of, divisor);
    }

    void mamba2(const Mamba2Shape& shape) const {
        in_range("the number of Mamba heads", shape.n_heads, 1, 65536);
        in_range("the Mamba head size", shape.head_dim, 1, 65536);
        in_range("the Mamba state size", shape.state_size, 1, 65536);
        in_range("the number of Mamba groups", shape.n_groups, 1, shape.n_heads);
        in_range("the Mamba convolution width", shape.conv_kernel, 1, 16);
        multiple("the number of Mamba heads", shape.n_heads, "groups", shape.n_groups);
        in_range("the Mamba inner size", shape.d_inner(), 1, kMaxDim);
        in_range("the Mamba projection size", shape.in_proj_dim(), 1, kMaxDim);
    }

    void attention(const AttentionShape& shape) const {
        in_range("the number of attention heads", shape.n_heads, 1, 65536);
        in_range("the number of key-value heads", shape.n_kv_heads, 1, shape.n_heads);
        in_range("the attention head size", shape.head_dim, 1, 65536);
        multiple("the number of attention heads", shape.n_heads, "key-value heads",
                 shape.n_kv_heads);
        in_range("the attention query size", shape.q_dim(), 1, kMaxDim);
        rotary(shape);
    }

    void rotary(const AttentionShape& shape) const {
        const RotaryShape& rotary = shape.rotary;
        in_range("the number of rotary dimensions", rotary.n_dims, 0, shape.head_dim);
        if (rotary.n_dims % 2 != 0)
            fail(ErrorCode::bad_file, "{}: the number of rotary dimensions is {}, which is odd",
                 source_, rotary.n_dims);
        above_zero("the rotary base", rotary.theta);
        above_zero("the rotary scale", rotary.position_scale);
    }

    void above_zero(std::string_view field, float value) const {
        if (!(value > 0.0f && std::isfinite(value)))
            fail(ErrorCode::bad_file, "{}: {} is {}, but a finite number above 0 is needed",
                 source_, field, value);
    }

    void moe(const MoeShape& moe) const {
        const RouterShape& router = moe.router;
        in_range("the number of experts", router.n_experts, 1, kMaxExperts);
        in_range("the number of used experts", router.n_used, 1, router.n_experts);
        in_range("the number of expert groups", router.n_groups, 1, router.n_experts);
        multiple("the number of experts", router.n_experts, "expert groups", router.n_groups);
        in_range("the number of used expert groups", router.n_groups_used, 1, router.n_groups);
        const int64_t n_eligible = router.n_experts / router.n_groups * router.n_groups_used;
        in_range("the number of used experts", router.n_used, 1, n_eligible);
        if (!std::isfinite(router.scale))
            fail(ErrorCode::bad_file, "{}: the routed scaling factor is not finite", source_);
        in_range("the expert width", moe.n_ff, 1, kMaxDim);
        in_range("the shared expert width", moe.n_ff_shared, 0, kMaxDim);
        in_range("the latent size", moe.n_latent, 0, kMaxDim);
    }

    // Files have one key for all blocks.
    void same_weighting(const std::vector<const MoeShape*>& blocks) const {
        const RouterShape* first = nullptr;
        for (const MoeShape* block : blocks) {
            if (block == nullptr) continue;
            const RouterShape& router = block->router;
            if (first == nullptr) first = &router;
            if (router.scale == first->scale && router.normalize == first->normalize) continue;
            fail(ErrorCode::bad_file,
                 "{}: the routed scaling factor or norm_topk_prob differs between layers ({}, {} "
                 "and {}, {}), which is not supported",
                 source_, first->scale, first->normalize, router.scale, router.normalize);
        }
    }

private:
    const std::string& source_;
};

}  // namespace

const char* layer_kind_name(LayerKind kind) {
    switch (kind) {
        case LayerKind::mamba2:
            return "mamba2";
        case LayerKind::attention:
            return "attention";
        case LayerKind::mlp:
            return "mlp";
        case LayerKind::moe:
            return "moe";
    }
    return "?";
}

bool ModelConfig::has_moe() const {
    return n_layers(LayerKind::moe) > 0;
}

int64_t ModelConfig::n_layers(LayerKind kind) const {
    return std::ranges::count(layers, kind, &LayerConfig::kind);
}

void check_block_count(int64_t n_blocks, const std::string& source) {
    Checker(source).in_range("the number of blocks", n_blocks, 1, kMaxBlocks);
}

BlockShapes::BlockShapes(const ModelConfig& config) {
    for (const LayerConfig& layer : config.layers) {
        mamba2.push_back(layer.kind == LayerKind::mamba2 ? &layer.mamba2 : nullptr);
        attention.push_back(layer.kind == LayerKind::attention ? &layer.attention : nullptr);
        moe.push_back(layer.kind == LayerKind::moe ? &layer.moe : nullptr);
    }
    for (const PredictionBlock& block : config.prediction_blocks) {
        mamba2.push_back(nullptr);
        attention.push_back(&block.attention);
        moe.push_back(&block.moe);
    }
}

void check_config(const ModelConfig& config, const std::string& source) {
    const Checker check(source);
    check.in_range("the vocabulary size", config.n_vocab, 1, kMaxDim);
    check.in_range("the hidden size", config.n_embd, 1, kMaxDim);
    check_block_count(config.n_blocks(), source);
    if (!(config.norm_eps > 0.0f && config.norm_eps < 1.0f))
        fail(ErrorCode::bad_file, "{}: the norm epsilon is {}, but 0 < epsilon < 1 is needed",
             source, config.norm_eps);
    for (const LayerConfig& layer : config.layers) {
        switch (layer.kind) {
            case LayerKind::mamba2:
                check.mamba2(layer.mamba2);
                break;
            case LayerKind::attention:
                check.attention(layer.attention);
                break;
            case LayerKind::mlp:
                check.in_range("the MLP width", layer.n_ff, 1, kMaxDim);
                break;
            case LayerKind::moe:
                check.moe(layer.moe);
                break;
        }
    }
    for (const PredictionBlock& block : config.prediction_blocks) {
        check.attention(block.attention);
        check.moe(block.moe);
    }
    check.same_weighting(BlockShapes(config).moe);
}

}  // namespace nemo
