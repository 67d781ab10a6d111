// The GGUF keys of architectures nemotron_h and nemotron_h_moe.
//
// The file has no layer pattern: a layer is Mamba-2 if it has neither key-value heads nor a
// feed-forward length, attention if it has key-value heads, else feed-forward.
//
// Dimensions that vary from layer to layer (Puzzle) are arrays of block_count numbers under the
// usual keys. llama.cpp reads such arrays for expert_used_count and expert_feed_forward_length
// (since September 2026) and for the attention heads; for the other keys it wants one number.
//
// The last nextn_predict_layers of the blocks are the multi-token prediction head.
#include "core/error.h"
#include "models/config_keys.h"

#include <algorithm>
#include <functional>

namespace nemo {

namespace {

class LayerReader {
public:
    explicit LayerReader(const ConfigReader& keys) : keys_(keys) {}

    void read(ModelConfig& config) const {
        const int64_t n_blocks = keys_.n_blocks();
        const int64_t n_extra = keys_.integer("nextn_predict_layers", 0);
        if (n_extra < 0 || n_extra >= n_blocks)
            fail(ErrorCode::bad_file, "{}: key {} is {}, but 0 to {} of {} blocks are supported",
                 keys_.file().path(), keys_.name("nextn_predict_layers"), n_extra, n_blocks - 1,
                 n_blocks);
        const auto n_layers = static_cast<size_t>(n_blocks - n_extra);
        for (size_t i = 0; i < n_layers; ++i) {
            LayerConfig layer;
            if (const int64_t n_ff = keys_.of_block("feed_forward_length", i); n_ff > 0) {
                read_feed_forward(i, n_ff, layer);
            } else if (keys_.of_block("attention.head_count_kv", i) > 0) {
                layer.kind = LayerKind::attention;
                layer.attention = keys_.attention_shape(i, config.n_embd);
            } else {
                layer.kind = LayerKind::mamba2;
                layer.mamba2 = mamba2_shape(i);
            }
            config.layers.push_back(layer);
        }
        for (size_t i = n_layers; i < static_cast<size_t>(n_blocks); ++i)
            config.prediction_blocks.push_back(
                {keys_.attention_shape(i, config.n_embd),
                 moe_shape(i, keys_.of_block("feed_forward_length", i))});
    }

private:
    Mamba2Shape mamba2_shape(size_t i) const {
        Mamba2Shape shape;
        shape.n_heads = keys_.of_block("ssm.time_step_rank", i);
        shape.state_size = keys_.of_block("ssm.state_size", i);
        shape.n_groups = keys_.of_block("ssm.group_count", i);
        shape.conv_kernel = keys_.of_block("ssm.conv_kernel", i);
        const int64_t d_inner = keys_.of_block("ssm.inner_size", i);
        if (shape.n_heads < 1 || d_inner % shape.n_heads != 0)
            fail(ErrorCode::bad_file, "{}: key {} is {}, not a multiple of {} = {}",
                 keys_.file().path(), keys_.name("ssm.inner_size"), d_inner,
                 keys_.name("ssm.time_step_rank"), shape.n_heads);
        shape.head_dim = d_inner / shape.n_heads;
        return shape;
    }

    void read_feed_forward(size_t i, int64_t n_ff, LayerConfig& layer) const {
        const bool dense = keys_.file().find(fmt::format("blk.{}.ffn_up.weight", i)) != nullptr;
        if (dense || keys_.of_block("expert_count", i, 0) == 0) {
            layer.kind = LayerKind::mlp;
            layer.n_ff = n_ff;
            return;
        }
        layer.kind = LayerKind::moe;
        layer.moe = moe_shape(i, n_ff);
    }

    // `n_ff` is for files that do not tell the experts' width apart.
    MoeShape moe_shape(size_t i, int64_t n_ff) const {
        MoeShape moe;
        moe.router.n_experts = keys_.of_block("expert_count", i);
        moe.router.n_used = keys_.of_block("expert_used_count", i);
        moe.router.n_groups = std::max<int64_t>(1, keys_.of_block("expert_group_count", i, 1));
        moe.router.n_groups_used =
            std::max<int64_t>(1, keys_.of_block("expert_group_used_count", i, 1));
        moe.router.normalize = keys_.flag("expert_weights_norm", false);
        moe.router.scale = keys_.real("expert_weights_scale", 1.0);
        moe.n_ff = keys_.of_block("expert_feed_forward_length", i, n_ff);
        if (keys_.of_block("expert_shared_count", i, 0) > 0)
            moe.n_ff_shared = keys_.of_block("expert_shared_feed_forward_length", i);
        moe.n_latent = keys_.of_block("moe_latent_size", i, 0);
        return moe;
    }

    const ConfigReader& keys_;
};

class LayerWriter {
public:
    LayerWriter(const ModelConfig& config, ConfigWriter& keys)
        : config_(config), blocks_(config), keys_(keys) {}

    void write() {
        if (!config_.prediction_blocks.empty())
            keys_.u32("nextn_predict_layers", std::ssize(config_.prediction_blocks));
        write_feed_forward();
        write_attention();
        write_mamba2();
        if (config_.has_moe()) write_moe();
    }

private:
    template <class Shape>
    using Blocks = std::vector<const Shape*>;  // see BlockShapes

    template <class Shape>
    static const Shape* first(const Blocks<Shape>& blocks) {
        const auto found = std::ranges::find_if(blocks, [](auto* block) { return block; });
        return found == blocks.end() ? nullptr : *found;
    }

    template <class Shape, class Get>
    static std::vector<int64_t> column(const Blocks<Shape>& blocks, int64_t elsewhere, Get get) {
        std::vector<int64_t> values;
        for (const Shape* block : blocks)
            values.push_back(block != nullptr ? std::invoke(get, *block) : elsewhere);
        return values;
    }

    // One number where all blocks of the kind agree, which is what every reader expects; else one
    // per block, `elsewhere` in blocks of another kind. Nothing if there is no block of the kind.
    template <class Shape, class Get>
    void set_per_block(const char* key, const Blocks<Shape>& blocks, Get get,
                       int64_t elsewhere = 0) {
        const Shape* any = first(blocks);
        if (any == nullptr) return;
        const int64_t value = std::invoke(get, *any);
        const std::vector<int64_t> values = column(blocks, value, get);
        if (std::ranges::count(values, value) == std::ssize(values))
            keys_.u32(key, value);
        else
            keys_.array(key, column(blocks, elsewhere, get));
    }

    void write_feed_forward() {
        std::vector<int64_t> widths = column(blocks_.moe, 0, &MoeShape::n_ff);
        for (size_t i = 0; i < config_.layers.size(); ++i)
            if (config_.layers[i].kind == LayerKind::mlp) widths[i] = config_.layers[i].n_ff;
        keys_.array("feed_forward_length", widths);
    }

    void write_attention() {
        keys_.array("attention.head_count_kv",
                    column(blocks_.attention, 0, &AttentionShape::n_kv_heads));
        // Readers divide by the head count of the first block, even if no block attends.
        const AttentionShape* any = first(blocks_.attention);
        if (any == nullptr) return keys_.u32("attention.head_count", 1);
        set_per_block("attention.head_count", blocks_.attention, &AttentionShape::n_heads,
                      any->n_heads);
        set_per_block("attention.key_length", blocks_.attention, &AttentionShape::head_dim);
        set_per_block("attention.value_length", blocks_.attention, &AttentionShape::head_dim);
    }

    void write_mamba2() {
        set_per_block("ssm.conv_kernel", blocks_.mamba2, &Mamba2Shape::conv_kernel);
        set_per_block("ssm.inner_size", blocks_.mamba2, &Mamba2Shape::d_inner);
        set_per_block("ssm.state_size", blocks_.mamba2, &Mamba2Shape::state_size);
        set_per_block("ssm.time_step_rank", blocks_.mamba2, &Mamba2Shape::n_heads);
        set_per_block("ssm.group_count", blocks_.mamba2, &Mamba2Shape::n_groups);
    }

    void write_moe() {
        const auto router = [](int64_t RouterShape::*field) {
            return [field](const MoeShape& moe) { return moe.router.*field; };
        };
        set_per_block("expert_count", blocks_.moe, router(&RouterShape::n_experts));
        set_per_block("expert_used_count", blocks_.moe, router(&RouterShape::n_used));
        set_per_block("expert_feed_forward_length", blocks_.moe, &MoeShape::n_ff);
        const bool any_shared = std::ranges::any_of(blocks_.moe, [](const MoeShape* moe) {
            return moe != nullptr && moe->n_ff_shared > 0;
        });
        if (any_shared) {
            set_per_block("expert_shared_count", blocks_.moe,
                          [](const MoeShape& moe) { return int64_t{moe.n_ff_shared > 0}; });
            set_per_block("expert_shared_feed_forward_length", blocks_.moe, &MoeShape::n_ff_shared);
        }
        set_per_block("expert_group_count", blocks_.moe, router(&RouterShape::n_groups));
        set_per_block("expert_group_used_count", blocks_.moe, router(&RouterShape::n_groups_used));
        const bool any_latent = std::ranges::any_of(
            blocks_.moe, [](const MoeShape* moe) { return moe != nullptr && moe->n_latent > 0; });
        if (any_latent) set_per_block("moe_latent_size", blocks_.moe, &MoeShape::n_latent);
        // check_config has seen that these two are the same in all blocks.
        const RouterShape& any = first(blocks_.moe)->router;
        keys_.flag("expert_weights_norm", any.normalize);
        keys_.f32("expert_weights_scale", any.scale);
    }

    const ModelConfig& config_;
    BlockShapes blocks_;
    ConfigWriter& keys_;
};

}  // namespace

void read_nemotron_h(const ConfigReader& keys, ModelConfig& config) {
    config.norm_eps = keys.real("attention.layer_norm_rms_epsilon");
    LayerReader(keys).read(config);
}

void write_nemotron_h(const ModelConfig& config, ConfigWriter& keys) {
    // llama.cpp requires both spellings of the one epsilon.
    keys.f32("attention.layer_norm_rms_epsilon", config.norm_eps);
    keys.f32("attention.layer_norm_epsilon", config.norm_eps);
    LayerWriter(config, keys).write();
}

}  // namespace nemo
