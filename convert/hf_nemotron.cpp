// The config.json of NemotronForCausalLM (Nemotron-4, Minitron).
#include "convert/hf_fields.h"
#include "core/error.h"

namespace nemo {

namespace {

// Linear scaling divides positions by a factor.
float position_scale(const HfFields& rope) {
    const Json* type = rope.find({"rope_type", "type"});
    if (type == nullptr || *type == Json("default")) return 1.0f;
    if (!(*type == Json("linear")))
        fail(ErrorCode::bad_file,
             "{}: rope_type is {}; only \"default\" and \"linear\" are supported", rope.source(),
             to_json_text(*type));
    const double factor = rope.real({"factor"}, 1.0);
    if (!(factor > 0.0))
        fail(ErrorCode::bad_file, "{}: factor is {}, expected a number above 0", rope.source(),
             factor);
    return static_cast<float>(1.0 / factor);
}

// Up to transformers 4 the fields lie in the configuration and only the scaling in an object
// (`rope_scaling`), since version 5 all lie in one (`rope_parameters`).
RotaryShape rotary_shape(const HfFields& fields, int64_t head_dim) {
    const Json none = Json::Object{};
    const Json* object = fields.find({"rope_parameters", "rope_scaling"});
    if (object != nullptr && !object->is_object())
        fields.wrong("rope_scaling", *object, "an object or null");
    const HfFields rope(object != nullptr ? *object : none, fields.source() + ": rope_scaling",
                        fields);
    const double share =
        rope.real({"partial_rotary_factor", "rope_pct", "rope_percent", "rope_percentage"}, 0.5);
    if (!(share >= 0.0 && share <= 1.0))
        fail(ErrorCode::bad_file, "{}: partial_rotary_factor is {}, expected a number from 0 to 1",
             fields.source(), share);
    RotaryShape rotary;
    rotary.n_dims = static_cast<int64_t>(static_cast<double>(head_dim) * share);
    rotary.theta = static_cast<float>(rope.real({"rope_theta"}, 10000.0));
    rotary.position_scale = position_scale(rope);
    return rotary;
}

AttentionShape attention_shape(const HfFields& fields, int64_t n_embd) {
    AttentionShape shape;
    shape.n_heads = fields.integer({"num_attention_heads"});
    shape.n_kv_heads = fields.integer({"num_key_value_heads"}, shape.n_heads);
    if (fields.find({"head_dim", "kv_channels"}) == nullptr &&
        (shape.n_heads == 0 || n_embd % shape.n_heads != 0)) {
        fail(ErrorCode::bad_file,
             "{}: head_dim is missing, and hidden_size {} is not a multiple of "
             "num_attention_heads {}",
             fields.source(), n_embd, shape.n_heads);
    }
    shape.head_dim =
        fields.integer({"head_dim", "kv_channels"}, shape.n_heads > 0 ? n_embd / shape.n_heads : 0);
    shape.rotary = rotary_shape(fields, shape.head_dim);
    return shape;
}

}  // namespace

void read_hf_nemotron(const HfFields& fields, ModelConfig& config) {
    fields.refuse_biases({"attention_bias", "mlp_bias"});
    fields.require_text("hidden_act", "relu2");
    config.architecture = "nemotron";
    config.norm = NormKind::layer;
    config.norm_eps =
        static_cast<float>(fields.real({"norm_eps", "layer_norm_epsilon", "layer_norm_eps"}, 1e-5));
    config.layers_per_block = 2;
    LayerConfig attention = {.kind = LayerKind::attention};
    attention.attention = attention_shape(fields, config.n_embd);
    const LayerConfig mlp = {.kind = LayerKind::mlp, .n_ff = fields.integer({"intermediate_size"})};
    const int64_t n_blocks = fields.integer({"num_hidden_layers"});
    check_block_count(n_blocks, fields.source());
    for (int64_t block = 0; block < n_blocks; ++block) {
        config.layers.push_back(attention);
        config.layers.push_back(mlp);
    }
}

}  // namespace nemo
