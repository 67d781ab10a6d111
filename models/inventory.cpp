#include "models/inventory.h"

#include <fmt/core.h>

namespace nemo {

namespace {

class InventoryBuilder {
public:
    explicit InventoryBuilder(const ModelConfig& config) : config_(config) {}

    std::vector<TensorSpec> build() {
        add(TensorRole::token_embedding, -1, "token_embd.weight",
            {config_.n_embd, config_.n_vocab});
        for (size_t i = 0; i < config_.layers.size(); ++i)
            add_layer(static_cast<int>(i), config_.layers[i]);
        add_f32(TensorRole::norm, -1, "output_norm.weight", {config_.n_embd});
        if (!config_.tied_embeddings)
            add(TensorRole::output, -1, "output.weight", {config_.n_embd, config_.n_vocab});
        return std::move(specs_);
    }

private:
    using Dims = std::initializer_list<int64_t>;

    void add(TensorRole role, int layer, std::string name, Dims dims, bool always_f32 = false) {
        TensorSpec spec = {
            role, layer, std::move(name), {1, 1, 1, 1}, static_cast<int>(dims.size()), always_f32};
        size_t i = 0;
        for (const int64_t dim : dims) spec.dims[i++] = dim;
        specs_.push_back(std::move(spec));
    }

    void add_f32(TensorRole role, int layer, std::string name, Dims dims) {
        add(role, layer, std::move(name), dims, true);
    }

    void add_layer(int i, const LayerConfig& layer) {
        const auto name = [i](const char* suffix) { return fmt::format("blk.{}.{}", i, suffix); };
        add_f32(TensorRole::norm, i, name("attn_norm.weight"), {config_.n_embd});
        switch (layer.kind) {
            case LayerKind::mamba2:
                add_mamba2(i, layer.mamba2, name);
                return;
            case LayerKind::attention:
                add_attention(i, layer.attention, name);
                return;
            case LayerKind::mlp:
                add(TensorRole::ffn_up, i, name("ffn_up.weight"), {config_.n_embd, layer.n_ff});
                add(TensorRole::ffn_down, i, name("ffn_down.weight"), {layer.n_ff, config_.n_embd});
                return;
            case LayerKind::moe:
                add_moe(i, layer.moe, name);
                return;
        }
    }

    template <class Name>
    void add_mamba2(int i, const Mamba2Shape& shape, const Name& name) {
        const int64_t n_heads = shape.n_heads;
        add(TensorRole::ssm_in, i, name("ssm_in.weight"), {config_.n_embd, shape.in_proj_dim()});
        add_f32(TensorRole::ssm_conv_weight, i, name("ssm_conv1d.weight"),
                {shape.conv_kernel, shape.conv_dim()});
        add_f32(TensorRole::ssm_conv_bias, i, name("ssm_conv1d.bias"), {shape.conv_dim()});
        add_f32(TensorRole::ssm_dt_bias, i, name("ssm_dt.bias"), {n_heads});
        add_f32(TensorRole::ssm_a, i, name("ssm_a"), {1, n_heads});
        add_f32(TensorRole::ssm_d, i, name("ssm_d"), {1, n_heads});
        add_f32(TensorRole::ssm_norm, i, name("ssm_norm.weight"),
                {shape.d_inner() / shape.n_groups, shape.n_groups});
        add(TensorRole::ssm_out, i, name("ssm_out.weight"), {shape.d_inner(), config_.n_embd});
    }

    template <class Name>
    void add_attention(int i, const AttentionShape& shape, const Name& name) {
        add(TensorRole::attn_q, i, name("attn_q.weight"), {config_.n_embd, shape.q_dim()});
        add(TensorRole::attn_k, i, name("attn_k.weight"), {config_.n_embd, shape.kv_dim()});
        add(TensorRole::attn_v, i, name("attn_v.weight"), {config_.n_embd, shape.kv_dim()});
        add(TensorRole::attn_output, i, name("attn_output.weight"),
            {shape.q_dim(), config_.n_embd});
    }

    template <class Name>
    void add_moe(int i, const MoeShape& moe, const Name& name) {
        const int64_t n_experts = moe.router.n_experts;
        const int64_t n_in = moe.n_latent > 0 ? moe.n_latent : config_.n_embd;
        add_f32(TensorRole::router, i, name("ffn_gate_inp.weight"), {config_.n_embd, n_experts});
        add_f32(TensorRole::router_bias, i, name("exp_probs_b.bias"), {n_experts});
        if (moe.n_latent > 0) {
            add(TensorRole::latent_down, i, name("ffn_latent_down.weight"),
                {config_.n_embd, moe.n_latent});
            add(TensorRole::latent_up, i, name("ffn_latent_up.weight"),
                {moe.n_latent, config_.n_embd});
        }
        add(TensorRole::experts_up, i, name("ffn_up_exps.weight"), {n_in, moe.n_ff, n_experts});
        add(TensorRole::experts_down, i, name("ffn_down_exps.weight"), {moe.n_ff, n_in, n_experts});
        if (moe.n_ff_shared > 0) {
            add(TensorRole::shared_up, i, name("ffn_up_shexp.weight"),
                {config_.n_embd, moe.n_ff_shared});
            add(TensorRole::shared_down, i, name("ffn_down_shexp.weight"),
                {moe.n_ff_shared, config_.n_embd});
        }
    }

    const ModelConfig& config_;
    std::vector<TensorSpec> specs_;
};

}  // namespace

std::vector<TensorSpec> tensor_inventory(const ModelConfig& config) {
    return InventoryBuilder(config).build();
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

std::string scale_name(const std::string& tensor_name) {
    constexpr std::string_view kSuffix = ".weight";
    std::string stem = tensor_name;
    if (stem.ends_with(kSuffix)) stem.resize(stem.size() - kSuffix.size());
    return stem + ".scale";
}

}  // namespace nemo
