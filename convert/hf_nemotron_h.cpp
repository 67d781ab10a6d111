// The config.json of NemotronHForCausalLM and NemotronHPuzzleForCausalLM, in the spellings of the
// hub's remote code and of native transformers.
#include "convert/hf_fields.h"
#include "core/error.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo {

namespace {

// softplus of any trained projection stays far below this.
constexpr double kNoTimeStepLimit = 1e10;

// ---------------------------------------------------------------- what is refused

// The value of one end of time_step_limit: a number, or one of the ways to write infinity.
std::optional<double> limit_value(const Json& value) {
    if (value.is_number()) return value.number();
    const Json* wrapped = value.find("__float__");
    const Json& text = wrapped != nullptr ? *wrapped : value;
    if (text == Json("Infinity") || text == Json("inf")) {
        return std::numeric_limits<double>::infinity();
    }
    return std::nullopt;
}

// Neither llama.cpp's file format nor our kernels clamp the time step.
void check_time_step_limit(const HfFields& fields) {
    const Json* value = fields.find({"time_step_limit", "mamba_dt_limit"});
    if (value == nullptr) return;
    const bool is_pair = value->is_array() && value->array().size() == 2;
    const std::optional<double> low = is_pair ? limit_value(value->array()[0]) : std::nullopt;
    const std::optional<double> high = is_pair ? limit_value(value->array()[1]) : std::nullopt;
    if (!low || !high) fields.wrong("time_step_limit", *value, "two numbers");
    if (!(*low <= 0.0 && *high >= kNoTimeStepLimit)) {
        fail(ErrorCode::bad_file,
             "{}: time_step_limit is {}; only [0, Infinity] (no limit) is supported",
             fields.source(), to_json_text(*value));
    }
}

void check_unsupported(const HfFields& fields) {
    fields.refuse_biases({"use_bias", "mamba_proj_bias", "attention_bias", "mlp_bias"});
    if (!fields.flag({"use_conv_bias", "mamba_conv_bias"}, true)) {
        fail(ErrorCode::bad_file, "{}: use_conv_bias is false, which is not supported",
             fields.source());
    }
    fields.require_text("mamba_hidden_act", "silu");
    fields.require_text("mlp_hidden_act", "relu2");
    check_time_step_limit(fields);
}

// ---------------------------------------------------------------- layers

std::vector<LayerKind> kinds_from_pattern(const Json& value, const HfFields& fields,
                                          const char* key) {
    if (!value.is_string()) fields.wrong(key, value, "a string");
    std::vector<LayerKind> kinds;
    for (const char c : value.string()) {
        switch (c) {
            case 'M':
                kinds.push_back(LayerKind::mamba2);
                break;
            case '*':
                kinds.push_back(LayerKind::attention);
                break;
            case '-':
                kinds.push_back(LayerKind::mlp);
                break;
            case 'E':
                kinds.push_back(LayerKind::moe);
                break;
            default:
                fields.wrong(key, value, "the characters M, *, - and E");
        }
    }
    return kinds;
}

LayerKind kind_from_name(const Json& value, const std::string& where) {
    const std::string_view name = value.is_string() ? value.string() : std::string_view();
    if (name == "mamba" || name == "mamba2" || name == "linear_attention" || name == "M")
        return LayerKind::mamba2;
    if (name == "attention" || name == "full_attention" || name == "*") return LayerKind::attention;
    if (name == "mlp" || name == "-") return LayerKind::mlp;
    if (name == "moe" || name == "E") return LayerKind::moe;
    fail(ErrorCode::bad_file, "{} is {}, expected mamba, attention, mlp or moe", where,
         to_json_text(value));
}

std::vector<LayerKind> kinds_from_list(const Json& value, const HfFields& fields, const char* key) {
    if (!value.is_array()) fields.wrong(key, value, "a list");
    std::vector<LayerKind> kinds;
    for (const Json& entry : value.array())
        kinds.push_back(
            kind_from_name(entry, fmt::format("{}: {}[{}]", fields.source(), key, kinds.size())));
    return kinds;
}

// What may differ from block to block, beside the kind.
bool may_vary(std::string_view key) {
    constexpr std::string_view kKeys[] = {"block_type",
                                          "n_routed_experts",
                                          "num_experts_per_tok",
                                          "moe_intermediate_size",
                                          "moe_latent_size",
                                          "moe_shared_expert_intermediate_size",
                                          "n_shared_experts",
                                          "intermediate_size",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "head_dim",
                                          "mamba_num_heads",
                                          "mamba_head_dim",
                                          "ssm_state_size",
                                          "n_groups",
                                          "conv_kernel"};
    return std::ranges::find(kKeys, key) != std::end(kKeys);
}

// The fields of each entry of a list of block configurations (Puzzle), on top of the model's.
// Nothing is ignored: a field that cannot vary must be null or what the model says.
std::vector<HfFields> block_fields(const char* key, const HfFields& model) {
    std::vector<HfFields> blocks;
    const Json* list = model.find({key});
    if (list == nullptr) return blocks;
    if (!list->is_array()) model.wrong(key, *list, "a list");
    for (const Json& block : list->array()) {
        std::string where = fmt::format("{}: {}[{}]", model.source(), key, blocks.size());
        if (!block.is_object())
            fail(ErrorCode::bad_file, "{} is {}, expected an object", where, to_json_text(block));
        for (const auto& [name, value] : block.object()) {
            if (may_vary(name) || value.is_null()) continue;
            const Json* of_model = model.find({name.c_str()});
            if (of_model != nullptr && *of_model == value) continue;
            fail(ErrorCode::bad_file, "{}: {} is {}; that it differs in a block is not supported",
                 where, name, to_json_text(value));
        }
        blocks.emplace_back(block, std::move(where), model);
    }
    return blocks;
}

std::vector<LayerKind> kinds_from_blocks(const std::vector<HfFields>& blocks) {
    std::vector<LayerKind> kinds;
    for (const HfFields& block : blocks) {
        const Json* type = block.find({"block_type"});
        kinds.push_back(kind_from_name(type != nullptr ? *type : Json(),
                                       fmt::format("{}: block_type", block.source())));
    }
    return kinds;
}

// The fields that name the kinds of a sequence of blocks.
struct KindKeys {
    const char* pattern;
    const char* list;
    const char* older_list;
    const char* blocks;
};

// Those that are present must agree; empty if none is.
std::vector<LayerKind> kinds_of(const KindKeys& keys, const HfFields& fields,
                                const std::vector<HfFields>& blocks) {
    std::vector<std::pair<const char*, std::vector<LayerKind>>> found;
    if (!blocks.empty()) found.emplace_back(keys.blocks, kinds_from_blocks(blocks));
    if (const Json* pattern = fields.find({keys.pattern}))
        found.emplace_back(keys.pattern, kinds_from_pattern(*pattern, fields, keys.pattern));
    if (const Json* list = fields.find({keys.list, keys.older_list}))
        found.emplace_back(keys.list, kinds_from_list(*list, fields, keys.list));
    if (found.empty()) return {};
    const auto& [key, kinds] = found.front();
    for (const auto& [other_key, other] : found) {
        if (other != kinds)
            fail(ErrorCode::bad_file, "{}: {} and {} disagree", fields.source(), key, other_key);
    }
    return kinds;
}

std::vector<LayerKind> layer_kinds(const HfFields& fields, const std::vector<HfFields>& blocks) {
    constexpr KindKeys kKeys = {"hybrid_override_pattern", "layers_block_type", "layer_types",
                                "block_configs"};
    std::vector<LayerKind> kinds = kinds_of(kKeys, fields, blocks);
    if (kinds.empty()) {
        fail(ErrorCode::bad_file,
             "{}: none of hybrid_override_pattern, layers_block_type and block_configs",
             fields.source());
    }
    const int64_t n_layers = std::ssize(kinds);
    const int64_t n_declared = fields.integer({"num_hidden_layers"}, n_layers);
    if (n_declared != n_layers) {
        fail(ErrorCode::bad_file, "{}: num_hidden_layers is {}, but the layer pattern has {}",
             fields.source(), n_declared, n_layers);
    }
    return kinds;
}

Mamba2Shape mamba2_shape(const HfFields& fields) {
    return {
        .n_heads = fields.integer({"mamba_num_heads"}),
        .head_dim = fields.integer({"mamba_head_dim"}),
        .state_size =
            fields.integer({"ssm_state_size", "mamba_d_state", "ssm_states_size"}, int64_t{128}),
        .n_groups = fields.integer({"n_groups", "mamba_n_groups"}, int64_t{8}),
        .conv_kernel = fields.integer({"conv_kernel", "mamba_d_conv"}, int64_t{4}),
    };
}

AttentionShape attention_shape(const HfFields& fields) {
    const int64_t n_heads = fields.integer({"num_attention_heads"});
    return {
        .n_heads = n_heads,
        .n_kv_heads = fields.integer({"num_key_value_heads"}, n_heads),
        // hidden_size / heads would be wrong for most of the family.
        .head_dim = fields.integer({"head_dim", "attention_head_dim"}, int64_t{128}),
    };
}

MoeShape moe_shape(const HfFields& fields) {
    MoeShape moe;
    moe.router.n_experts = fields.integer({"n_routed_experts"});
    moe.router.n_used = fields.integer({"num_experts_per_tok"});
    moe.router.n_groups = fields.integer({"n_group"}, int64_t{1});
    moe.router.n_groups_used = fields.integer({"topk_group"}, int64_t{1});
    moe.router.normalize = fields.flag({"norm_topk_prob"}, true);
    moe.router.scale = static_cast<float>(fields.real({"routed_scaling_factor"}, 1.0));
    moe.n_ff = fields.integer({"moe_intermediate_size"});
    moe.n_latent = fields.integer({"moe_latent_size"}, int64_t{0});
    const int64_t n_shared = fields.integer({"n_shared_experts"}, int64_t{1});
    if (n_shared > 0) {
        moe.n_ff_shared = n_shared * fields.integer({"moe_shared_expert_intermediate_size"});
    }
    return moe;
}

// The width of the i-th of n '-' blocks: one number for all, or a list.
int64_t mlp_width(const HfFields& fields, size_t i, size_t n) {
    constexpr const char* kKey = "intermediate_size";
    const Json* value = fields.find({kKey});
    if (value == nullptr || !value->is_array()) return fields.integer({kKey});
    const Json::Array& widths = value->array();
    if (widths.size() != n && widths.size() != 1) {
        fail(ErrorCode::bad_file, "{}: {} has {} entries, but there are {} MLP blocks",
             fields.source(), kKey, widths.size(), n);
    }
    return fields.integer_value(widths[widths.size() == 1 ? 0 : i], kKey);
}

std::vector<LayerConfig> layer_configs(const HfFields& model) {
    const std::vector<HfFields> blocks = block_fields("block_configs", model);
    const std::vector<LayerKind> kinds = layer_kinds(model, blocks);
    const auto n_mlp = static_cast<size_t>(std::ranges::count(kinds, LayerKind::mlp));
    std::vector<LayerConfig> layers;
    size_t i_mlp = 0;
    for (size_t i = 0; i < kinds.size(); ++i) {
        const HfFields& fields = blocks.empty() ? model : blocks[i];
        LayerConfig layer;
        layer.kind = kinds[i];
        switch (layer.kind) {
            case LayerKind::mamba2:
                layer.mamba2 = mamba2_shape(fields);
                break;
            case LayerKind::attention:
                layer.attention = attention_shape(fields);
                break;
            case LayerKind::mlp:
                layer.n_ff = mlp_width(fields, i_mlp++, n_mlp);
                break;
            case LayerKind::moe:
                layer.moe = moe_shape(fields);
                break;
        }
        layers.push_back(layer);
    }
    return layers;
}

}  // namespace

void read_hf_nemotron_h(const HfFields& fields, ModelConfig& config) {
    check_unsupported(fields);
    config.norm_eps =
        static_cast<float>(fields.real({"layer_norm_epsilon", "rms_norm_eps", "norm_eps"}, 1e-5));
    config.layers = layer_configs(fields);
    config.architecture = config.has_moe() ? "nemotron_h_moe" : "nemotron_h";
}

void read_hf_nemotron_h_prediction(const HfFields& fields, ModelConfig& config) {
    const int64_t n_blocks = fields.integer({"num_nextn_predict_layers"}, int64_t{0});
    if (n_blocks == 0) return;
    constexpr const char* kWayOut = "--no-mtp leaves the prediction head out";
    if (n_blocks > 1) {
        fail(ErrorCode::bad_file,
             "{}: num_nextn_predict_layers is {}, but a prediction head of one layer is supported; "
             "{}",
             fields.source(), n_blocks, kWayOut);
    }
    constexpr KindKeys kKeys = {"mtp_hybrid_override_pattern", "mtp_layers_block_type",
                                "mtp_layer_types", "mtp_block_configs"};
    const std::vector<HfFields> blocks = block_fields("mtp_block_configs", fields);
    const std::vector<LayerKind> kinds = kinds_of(kKeys, fields, blocks);
    const std::vector<LayerKind> supported = {LayerKind::attention, LayerKind::moe};
    if (!(kinds.empty() || kinds == supported) || !config.has_moe()) {
        std::string names;
        for (const LayerKind kind : kinds)
            names += fmt::format("{}{}", names.empty() ? "" : ", ", layer_kind_name(kind));
        fail(ErrorCode::bad_file,
             "{}: the prediction head is [{}] on a model {} experts; only [attention, moe] on a "
             "model with experts is supported; {}",
             fields.source(), names, config.has_moe() ? "with" : "without", kWayOut);
    }
    config.prediction_blocks.push_back({attention_shape(blocks.empty() ? fields : blocks[0]),
                                        moe_shape(blocks.empty() ? fields : blocks[1])});
}

}  // namespace nemo
