#include "models/weight_binder.h"

#include "core/error.h"

namespace nemo {

WeightBinder::WeightBinder(const ModelFile& file, const ModelConfig& config, Backend& backend,
                           const TensorReplacements& replacements)
    : file_(file), config_(config), backend_(backend), replacements_(replacements) {
    for (TensorSpec& spec : tensor_inventory(config)) {
        std::string name = spec.name;
        specs_.emplace(std::move(name), std::move(spec));
    }
}

Weight WeightBinder::take(const std::string& name) {
    const auto found = specs_.find(name);
    NEMO_ASSERT(found != specs_.end());
    const TensorSpec& spec = found->second;
    const auto replacement = replacements_.find(name);
    const TensorView* tensor =
        replacement != replacements_.end() ? &replacement->second : file_.find(name);
    const std::string problem = tensor_problem(spec, tensor);
    if (!problem.empty()) fail(ErrorCode::bad_file, "{}: {}", file_.path(), problem);
    return backend_.upload(*tensor, find_scale(*tensor));
}

const TensorView* WeightBinder::find_scale(const TensorView& tensor) const {
    if (tensor.dtype != DType::nvfp4) return nullptr;
    const std::string name = scale_name(tensor.name);
    const TensorView* scale = file_.find(name);
    if (scale != nullptr && (scale->dtype != DType::f32 || scale->n_elements() != tensor.dims[2]))
        fail(ErrorCode::bad_file, "{}: tensor {} is {} {}, but F32 [{}] is expected", file_.path(),
             name, dtype_info(scale->dtype).name, dims_text(scale->dims), tensor.dims[2]);
    return scale;
}

Weight WeightBinder::take_in_layer(size_t layer, const char* suffix) {
    return take(block_prefix(config_, layer) + suffix);
}

Weight WeightBinder::take_optional_bias(const std::string& name, int64_t n) {
    const TensorView* tensor = file_.find(name);
    if (tensor == nullptr) return {};
    if (tensor->dtype != DType::f32 || tensor->n_elements() != n)
        fail(ErrorCode::bad_file, "{}: tensor {} is {} {}, but F32 [{}] is expected", file_.path(),
             name, dtype_info(tensor->dtype).name, dims_text(tensor->dims), n);
    return backend_.upload(*tensor);
}

Linear WeightBinder::take_linear(size_t layer, const char* stem) {
    const std::string name = block_prefix(config_, layer) + stem;
    Linear linear;
    linear.weight = take(name + ".weight");
    linear.bias = take_optional_bias(name + ".bias", linear.weight.n_out());
    return linear;
}

AttentionWeights WeightBinder::take_attention(size_t layer, const AttentionShape& shape) {
    AttentionWeights weights;
    weights.output = take_linear(layer, "attn_output");
    const std::string fused_name = block_prefix(config_, layer) + "attn_qkv.weight";
    const TensorView* fused = file_.find(fused_name);
    if (fused == nullptr) {
        weights.q = take_linear(layer, "attn_q");
        weights.k = take_linear(layer, "attn_k");
        weights.v = take_linear(layer, "attn_v");
        return weights;
    }
    // Some converters store q, k and v as the rows of one tensor.
    const int64_t n_rows = shape.q_dim() + 2 * shape.kv_dim();
    const int64_t n_in = weights.output.weight.n_out();
    if (fused->dims != std::array<int64_t, 4>{n_in, n_rows, 1, 1})
        fail(ErrorCode::bad_file, "{}: tensor {} has dims {}, but [{}, {}] is expected",
             file_.path(), fused_name, dims_text(fused->dims), n_in, n_rows);
    const auto rows = [&](int64_t first, int64_t count) {
        TensorView part = *fused;
        part.dims[1] = count;
        part.data = fused->row(first);
        return backend_.upload(part, find_scale(*fused));
    };
    weights.q.weight = rows(0, shape.q_dim());
    weights.k.weight = rows(shape.q_dim(), shape.kv_dim());
    weights.v.weight = rows(shape.q_dim() + shape.kv_dim(), shape.kv_dim());
    return weights;
}

MoeWeights WeightBinder::take_moe(size_t layer, const MoeShape& shape) {
    MoeWeights weights;
    weights.router = take_in_layer(layer, "ffn_gate_inp.weight");
    weights.router_bias = take_in_layer(layer, "exp_probs_b.bias");
    weights.experts_up = take_in_layer(layer, "ffn_up_exps.weight");
    weights.experts_down = take_in_layer(layer, "ffn_down_exps.weight");
    if (shape.n_latent > 0) {
        weights.latent_down = take_in_layer(layer, "ffn_latent_down.weight");
        weights.latent_up = take_in_layer(layer, "ffn_latent_up.weight");
    }
    if (shape.n_ff_shared > 0) {
        weights.shared_up = take_in_layer(layer, "ffn_up_shexp.weight");
        weights.shared_down = take_in_layer(layer, "ffn_down_shexp.weight");
    }
    return weights;
}

NormWeights WeightBinder::take_norm(const std::string& name) {
    NormWeights norm;
    norm.weight = take(name + ".weight");
    if (config_.norm == NormKind::layer) norm.bias = take(name + ".bias");
    return norm;
}

LayerWeights WeightBinder::take_layer(size_t layer) {
    const LayerConfig& config = config_.layers[layer];
    LayerWeights weights;
    weights.norm = take_norm(norm_name(config_, layer));
    switch (config.kind) {
        case LayerKind::mamba2:
            weights.mixer = Mamba2Weights{
                .in_proj = take_in_layer(layer, "ssm_in.weight"),
                .conv_weight = take_in_layer(layer, "ssm_conv1d.weight"),
                .conv_bias = take_in_layer(layer, "ssm_conv1d.bias"),
                .dt_bias = take_in_layer(layer, "ssm_dt.bias"),
                .a = take_in_layer(layer, "ssm_a"),
                .d = take_in_layer(layer, "ssm_d"),
                .norm = take_in_layer(layer, "ssm_norm.weight"),
                .out_proj = take_in_layer(layer, "ssm_out.weight"),
            };
            break;
        case LayerKind::attention:
            weights.mixer = take_attention(layer, config.attention);
            break;
        case LayerKind::mlp:
            weights.mixer = MlpWeights{.up = take_linear(layer, "ffn_up"),
                                       .down = take_linear(layer, "ffn_down")};
            break;
        case LayerKind::moe:
            weights.mixer = take_moe(layer, config.moe);
            break;
    }
    return weights;
}

}  // namespace nemo
