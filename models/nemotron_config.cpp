// The GGUF keys of architecture nemotron (Nemotron-4, Minitron): a plain Transformer. Its blocks
// are all alike, and each is two layers here: attention with rotary positions, then an MLP.
#include "core/error.h"
#include "models/config_keys.h"

namespace nemo {

namespace {

// llama.cpp takes a factor without a type for linear scaling.
RotaryShape rotary_shape(const ConfigReader& keys, int64_t head_dim) {
    RotaryShape rotary;
    rotary.n_dims = keys.integer("rope.dimension_count", head_dim);
    rotary.theta = keys.real("rope.freq_base", 10000.0);
    const std::string type = keys.text("rope.scaling.type", "linear");
    if (type == "none") return rotary;
    if (type != "linear")
        fail(ErrorCode::bad_file, "{}: key {} is {}; none and linear are supported",
             keys.file().path(), keys.name("rope.scaling.type"), type);
    rotary.position_scale = 1.0f / keys.real("rope.scaling.factor", 1.0);
    return rotary;
}

}  // namespace

void read_nemotron(const ConfigReader& keys, ModelConfig& config) {
    config.norm = NormKind::layer;
    config.norm_eps = keys.real("attention.layer_norm_epsilon");
    config.layers_per_block = 2;
    for (size_t block = 0; block < static_cast<size_t>(keys.n_blocks()); ++block) {
        LayerConfig attention = {.kind = LayerKind::attention};
        attention.attention = keys.attention_shape(block, config.n_embd);
        attention.attention.rotary = rotary_shape(keys, attention.attention.head_dim);
        config.layers.push_back(attention);
        config.layers.push_back(
            {.kind = LayerKind::mlp, .n_ff = keys.of_block("feed_forward_length", block)});
    }
}

void write_nemotron(const ModelConfig& config, ConfigWriter& keys) {
    const AttentionShape& attention = config.layers.at(0).attention;
    const RotaryShape& rotary = attention.rotary;
    keys.f32("attention.layer_norm_epsilon", config.norm_eps);
    keys.u32("attention.head_count", attention.n_heads);
    keys.u32("attention.head_count_kv", attention.n_kv_heads);
    keys.u32("attention.key_length", attention.head_dim);
    keys.u32("attention.value_length", attention.head_dim);
    keys.u32("feed_forward_length", config.layers.at(1).n_ff);
    keys.u32("rope.dimension_count", rotary.n_dims);
    keys.f32("rope.freq_base", rotary.theta);
    const bool is_scaled = rotary.position_scale != 1.0f;
    keys.text("rope.scaling.type", is_scaled ? "linear" : "none");
    if (is_scaled) keys.f32("rope.scaling.factor", 1.0f / rotary.position_scale);
}

}  // namespace nemo
