#include "models/inventory.h"

#include <fmt/core.h>

namespace nemo {

namespace {

int block_of(const ModelConfig& config, size_t layer) {
    return static_cast<int>(static_cast<int64_t>(layer) / config.layers_per_block);
}

class InventoryBuilder {
public:
    explicit InventoryBuilder(const ModelConfig& config) : config_(config) {}

    std::vector<TensorSpec> build() {
        add(TensorRole::token_embedding, "token_embd.weight", {config_.n_embd, config_.n_vocab});
        for (size_t i = 0; i < config_.layers.size(); ++i) add_layer(i);
        layer_ = -1;
        for (const PredictionBlock& block : config_.prediction_blocks) {
            prefix_ = fmt::format("blk.{}.", ++block_);
            add_prediction(block);
        }
        block_ = -1;
        prefix_.clear();
        add_norm("output_norm");
        if (!config_.tied_embeddings)
            add(TensorRole::output, "output.weight", {config_.n_embd, config_.n_vocab});
        return std::move(specs_);
    }

private:
    using Dims = std::initializer_list<int64_t>;

    void add(TensorRole role, const std::string& name, Dims dims, bool always_f32 = false) {
        TensorSpec spec = {role,           layer_,       block_,
                           prefix_ + name, {1, 1, 1, 1}, static_cast<int>(dims.size()),
                           always_f32};
        size_t i = 0;
        for (const int64_t dim : dims) spec.dims[i++] = dim;
        specs_.push_back(std::move(spec));
    }

    void add_f32(TensorRole role, const std::string& name, Dims dims) {
        add(role, name, dims, true);
    }

    void add_norm(const std::string& name) {
        add_f32(TensorRole::norm, name + ".weight", {config_.n_embd});
        if (config_.norm == NormKind::layer)
            add_f32(TensorRole::norm_bias, name + ".bias", {config_.n_embd});
    }

    void add_layer(size_t i) {
        const LayerConfig& layer = config_.layers[i];
        layer_ = static_cast<int>(i);
        block_ = block_of(config_, i);
        prefix_.clear();
        add_norm(norm_name(config_, i));
        prefix_ = block_prefix(config_, i);
        switch (layer.kind) {
            case LayerKind::mamba2:
                add_mamba2(layer.mamba2);
                return;
            case LayerKind::attention:
                add_attention(layer.attention);
                return;
            case LayerKind::mlp:
                add(TensorRole::ffn_up, "ffn_up.weight", {config_.n_embd, layer.n_ff});
                add(TensorRole::ffn_down, "ffn_down.weight", {layer.n_ff, config_.n_embd});
                return;
            case LayerKind::moe:
                add_moe(layer.moe);
                return;
        }
    }

    void add_prediction(const PredictionBlock& block) {
        const int64_t n_embd = config_.n_embd;
        add_f32(TensorRole::prediction_token_norm, "nextn.enorm.weight", {n_embd});
        add_f32(TensorRole::prediction_hidden_norm, "nextn.hnorm.weight", {n_embd});
        add(TensorRole::prediction_in, "nextn.eh_proj.weight", {2 * n_embd, n_embd});
        add_f32(TensorRole::norm, "attn_norm.weight", {n_embd});
        add_attention(block.attention);
        add_f32(TensorRole::prediction_norm, "post_attention_norm.weight", {n_embd});
        add_moe(block.moe);
        add_f32(TensorRole::prediction_head_norm, "nextn.shared_head_norm.weight", {n_embd});
    }

    void add_mamba2(const Mamba2Shape& shape) {
        const int64_t n_heads = shape.n_heads;
        add(TensorRole::ssm_in, "ssm_in.weight", {config_.n_embd, shape.in_proj_dim()});
        add_f32(TensorRole::ssm_conv_weight, "ssm_conv1d.weight",
                {shape.conv_kernel, shape.conv_dim()});
        add_f32(TensorRole::ssm_conv_bias, "ssm_conv1d.bias", {shape.conv_dim()});
        add_f32(TensorRole::ssm_dt_bias, "ssm_dt.bias", {n_heads});
        add_f32(TensorRole::ssm_a, "ssm_a", {1, n_heads});
        add_f32(TensorRole::ssm_d, "ssm_d", {1, n_heads});
        add_f32(TensorRole::ssm_norm, "ssm_norm.weight",
                {shape.d_inner() / shape.n_groups, shape.n_groups});
        add(TensorRole::ssm_out, "ssm_out.weight", {shape.d_inner(), config_.n_embd});
    }

    void add_attention(const AttentionShape& shape) {
        add(TensorRole::attn_q, "attn_q.weight", {config_.n_embd, shape.q_dim()});
        add(TensorRole::attn_k, "attn_k.weight", {config_.n_embd, shape.kv_dim()});
        add(TensorRole::attn_v, "attn_v.weight", {config_.n_embd, shape.kv_dim()});
        add(TensorRole::attn_output, "attn_output.weight", {shape.q_dim(), config_.n_embd});
    }

    void add_moe(const MoeShape& moe) {
        const int64_t n_experts = moe.router.n_experts;
        const int64_t n_in = moe.n_latent > 0 ? moe.n_latent : config_.n_embd;
        add_f32(TensorRole::router, "ffn_gate_inp.weight", {config_.n_embd, n_experts});
        add_f32(TensorRole::router_bias, "exp_probs_b.bias", {n_experts});
        if (moe.n_latent > 0) {
            add(TensorRole::latent_down, "ffn_latent_down.weight", {config_.n_embd, moe.n_latent});
            add(TensorRole::latent_up, "ffn_latent_up.weight", {moe.n_latent, config_.n_embd});
        }
        add(TensorRole::experts_up, "ffn_up_exps.weight", {n_in, moe.n_ff, n_experts});
        add(TensorRole::experts_down, "ffn_down_exps.weight", {moe.n_ff, n_in, n_experts});
        if (moe.n_ff_shared > 0) {
            add(TensorRole::shared_up, "ffn_up_shexp.weight", {config_.n_embd, moe.n_ff_shared});
            add(TensorRole::shared_down, "ffn_down_shexp.weight",
                {moe.n_ff_shared, config_.n_embd});
        }
    }

    const ModelConfig& config_;
    std::vector<TensorSpec> specs_;
    // Of the tensors that are added now.
    int layer_ = -1;
    int block_ = -1;
    std::string prefix_;
};

}  // namespace

std::string block_prefix(const ModelConfig& config, size_t layer) {
    return fmt::format("blk.{}.", block_of(config, layer));
}

std::string norm_name(const ModelConfig& config, size_t layer) {
    const bool first = static_cast<int64_t>(layer) % config.layers_per_block == 0;
    return block_prefix(config, layer) + (first ? "attn_norm" : "ffn_norm");
}

std::vector<TensorSpec> tensor_inventory(const ModelConfig& config) {
    return InventoryBuilder(config).build();
}

std::set<int> layers_before_attention(std::span<const TensorSpec> inventory) {
    std::set<int> layers;
    int last_mamba = -1;
    for (const TensorSpec& spec : inventory) {
        if (spec.role == TensorRole::ssm_in) last_mamba = spec.layer;
        if (spec.role != TensorRole::attn_q || spec.is_prediction()) continue;
        if (last_mamba >= 0) layers.insert(last_mamba);
    }
    return layers;
}

std::string tensor_problem(const TensorSpec& spec, const TensorView* tensor) {
    if (tensor == nullptr) return fmt::format("tensor {} is missing", spec.name);
    if (tensor->dims != spec.dims)
        return fmt::format("tensor {} has dims {}, but {} is expected", spec.name,
                           dims_text(tensor->dims), dims_text(spec.dims));
    if (spec.always_f32 && tensor->dtype != DType::f32)
        return fmt::format("tensor {} has type {}, but F32 is expected", spec.name,
                           dtype_info(tensor->dtype).name);
    return "";
}

std::string tensor_stem(const std::string& tensor_name) {
    const size_t start =
        tensor_name.starts_with("blk.") ? tensor_name.find('.', sizeof "blk.") + 1 : 0;
    return tensor_name.substr(start, tensor_name.rfind('.') - start);
}

std::string scale_name(const std::string& tensor_name) {
    constexpr std::string_view kSuffix = ".weight";
    std::string stem = tensor_name;
    if (stem.ends_with(kSuffix)) stem.resize(stem.size() - kSuffix.size());
    return stem + ".scale";
}

bool takes_scale(TensorRole role) {
    return role != TensorRole::token_embedding && role != TensorRole::latent_down &&
           role != TensorRole::latent_up;
}

}  // namespace nemo
