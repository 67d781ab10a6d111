#include "convert/hf_config.h"

#include "checkpoint_fixture.h"

#include <utility>

namespace nemo {
namespace {

const char* const kDense = R"({
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h",
    "hybrid_override_pattern": "M-*-", "num_hidden_layers": 4, "hidden_size": 96, "vocab_size": 264,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32,
    "mamba_num_heads": 8, "mamba_head_dim": 12, "ssm_state_size": 16, "n_groups": 2,
    "conv_kernel": 4, "expand": 2, "intermediate_size": 160, "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 4096, "rope_theta": 10000})";

const char* const kMoe = R"({
    "architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "E", "hidden_size": 32,
    "vocab_size": 264, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2,
    "moe_intermediate_size": 40, "moe_shared_expert_intermediate_size": 48, "moe_latent_size": 16,
    "n_group": 4, "topk_group": 2, "norm_topk_prob": false, "routed_scaling_factor": 2.5})";

// Replaces each `from` by `to`, which must change something.
using Edits = std::vector<std::pair<std::string, std::string>>;
ModelConfig read(std::string text, const Edits& edits = {}, bool prediction_head = false) {
    for (const auto& [from, to] : edits) {
        const size_t at = text.find(from);
        REQUIRE_MESSAGE(at != std::string::npos, from);
        text.replace(at, from.size(), to);
    }
    return config_from_hf(parse_json(text, "config.json"), "config.json", prediction_head);
}

std::string described(const ModelConfig& config) {
    std::string text =
        fmt::format("{} V{} h{} ctx{} eps{} tied{}", config.architecture, config.n_vocab,
                    config.n_embd, config.n_context, config.norm_eps, config.tied_embeddings);
    const auto moe_text = [](const MoeShape& m) {
        return fmt::format("({},{},{},{},{},{},{},{},{})", m.router.n_experts, m.router.n_used,
                           m.router.n_groups, m.router.n_groups_used, m.router.normalize,
                           m.router.scale, m.n_ff, m.n_ff_shared, m.n_latent);
    };
    for (const LayerConfig& layer : config.layers) {
        text += fmt::format(" {}", layer_kind_name(layer.kind));
        if (layer.kind == LayerKind::mamba2) {
            const Mamba2Shape& s = layer.mamba2;
            text += fmt::format("({},{},{},{},{})", s.n_heads, s.head_dim, s.state_size, s.n_groups,
                                s.conv_kernel);
        } else if (layer.kind == LayerKind::attention) {
            const AttentionShape& s = layer.attention;
            text += fmt::format("({},{},{})", s.n_heads, s.n_kv_heads, s.head_dim);
        } else if (layer.kind == LayerKind::mlp) {
            text += fmt::format("({})", layer.n_ff);
        } else {
            text += moe_text(layer.moe);
        }
    }
    for (const PredictionBlock& block : config.prediction_blocks)
        text +=
            fmt::format(" prediction({},{},{}){}", block.attention.n_heads,
                        block.attention.n_kv_heads, block.attention.head_dim, moe_text(block.moe));
    return text;
}

TEST_CASE("config.json gives the dimensions of every layer") {
    CHECK(described(read(kDense)) ==
          "nemotron_h V264 h96 ctx4096 eps1e-05 tiedfalse mamba2(8,12,16,2,4) mlp(160) "
          "attention(6,2,32) mlp(160)");
    CHECK(described(read(kMoe)) ==
          "nemotron_h_moe V264 h32 ctx0 eps1e-05 tiedfalse moe(8,3,4,2,false,2.5,40,96,16)");
}

TEST_CASE("every spelling of a configuration means the same") {
    const std::string pattern = R"("hybrid_override_pattern": "M-*-")";
    const std::vector<Edits> spellings = {
        {{pattern, R"("layers_block_type": ["mamba", "mlp", "attention", "mlp"])"}},
        {{pattern, R"("layer_types": ["linear_attention", "mlp", "full_attention", "mlp"])"}},
        {{pattern, pattern + R"(, "layers_block_type": ["mamba", "mlp", "attention", "mlp"])"}},
        {{R"("num_hidden_layers": 4)", R"("num_hidden_layers": null)"}},
        {{R"("num_hidden_layers": 4, )", ""}},
        {{R"("head_dim")", R"("attention_head_dim")"}},
        {{R"("n_groups")", R"("mamba_n_groups")"}, {R"("conv_kernel")", R"("mamba_d_conv")"}},
        {{R"("ssm_state_size")", R"("mamba_d_state")"}},
        {{R"("ssm_state_size")", R"("ssm_states_size")"}},
        {{R"("layer_norm_epsilon")", R"("rms_norm_eps")"}},
        {{R"("layer_norm_epsilon")", R"("rms_norm_eps": 1e-5, "norm_eps")"}},
        {{R"("intermediate_size": 160)", R"("intermediate_size": [160])"}},
        {{R"("intermediate_size": 160)", R"("intermediate_size": [160, 160])"}},
        {{R"("expand": 2)", R"("time_step_limit": [0.0, Infinity])"}},
        {{R"("expand": 2)", R"("time_step_limit": [0, {"__float__": "Infinity"}])"}},
        {{R"("expand": 2)", R"("mamba_dt_limit": [0.0, 1e30])"}},
        {{R"("expand": 2)", R"("use_bias": false, "mamba_proj_bias": false, "mlp_bias": false)"}},
        {{R"("expand": 2)", R"("mamba_conv_bias": true, "mamba_hidden_act": "silu")"}},
        {{R"("expand": 2)",
          R"("num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E")"}},
        {{R"("architectures": ["NemotronHForCausalLM"], )", ""}},
        {{R"("architectures")", R"("llm_config": {"architectures")"}, {"10000}", "10000}}"}},
    };
    const std::string expected = described(read(kDense));
    for (const Edits& edits : spellings) {
        CAPTURE(edits.front().second);
        CHECK(described(read(kDense, edits)) == expected);
    }
}

// Dimensions per layer: the block's, or else the model's.
const char* const kPuzzle = R"({
    "architectures": ["NemotronHPuzzleForCausalLM"], "model_type": "nemotron_h_puzzle",
    "hidden_size": 32, "vocab_size": 264, "num_hidden_layers": null, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 12,
    "ssm_state_size": 96, "n_groups": 2, "n_routed_experts": 8, "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 48, "moe_latent_size": 16, "routed_scaling_factor": 5.0,
    "intermediate_size": [40, 56],
    "layers_block_type": ["mamba", "moe", "mlp", "mamba", "attention", "moe", "mlp"],
    "block_configs": [
        {"block_type": "mamba"},
        {"block_type": "moe", "moe_intermediate_size": 32, "num_experts_per_tok": 4},
        {"block_type": "mlp"},
        {"block_type": "mamba", "ssm_state_size": 128},
        {"block_type": "attention", "num_key_value_heads": 1, "sliding_window": null},
        {"block_type": "moe", "moe_intermediate_size": 64, "num_experts_per_tok": 2,
         "n_routed_experts": 6, "moe_latent_size": null, "routed_scaling_factor": 5.0},
        {"block_type": "mlp", "intermediate_size": 64}]})";

TEST_CASE("block_configs give every layer dimensions of its own") {
    const std::string expected =
        "nemotron_h_moe V264 h32 ctx0 eps1e-05 tiedfalse mamba2(8,12,96,2,4) "
        "moe(8,4,1,1,true,5,32,48,16) mlp(40) mamba2(8,12,128,2,4) attention(4,1,16) "
        "moe(6,2,1,1,true,5,64,48,16) mlp(64)";
    CHECK(described(read(kPuzzle)) == expected);
    CHECK(described(read(kPuzzle, {{R"("architectures": ["NemotronHPuzzleForCausalLM"], )",
                                    ""}})) == expected);
    // An empty list says nothing.
    CHECK(described(read(kDense, {{R"("expand": 2)", R"("block_configs": [])"}})) ==
          described(read(kDense)));
}

TEST_CASE("a prediction head has the model's dimensions, or its own") {
    const std::string head =
        R"("n_group": 4, "num_attention_heads": 4, "head_dim": 16, "num_nextn_predict_layers": 1)";
    const auto with_head = [&](const std::string& more) {
        return described(read(kMoe, {{R"("n_group": 4)", head + more}}, true));
    };
    const std::string model = described(read(kMoe));
    const std::string expected = model + " prediction(4,4,16)(8,3,4,2,false,2.5,40,96,16)";
    CHECK(with_head("") == expected);
    CHECK(with_head(R"(, "mtp_hybrid_override_pattern": "*E")") == expected);
    CHECK(with_head(R"(, "mtp_layers_block_type": ["full_attention", "moe"])") == expected);
    CHECK(with_head(R"(, "mtp_block_configs": [{"block_type": "attention", "head_dim": 8},
                     {"block_type": "moe", "moe_intermediate_size": 64, "num_experts_per_tok": 1}])") ==
          model + " prediction(4,4,8)(8,1,4,2,false,2.5,64,96,16)");
    // Not asked for, or not there.
    CHECK(described(read(kMoe, {{R"("n_group": 4)", head}})) == model);
    CHECK(described(read(kMoe, {}, true)) == model);
    CHECK(described(read(kMoe,
                         {{R"("n_group": 4)", R"("n_group": 4, "num_nextn_predict_layers": 0)"}},
                         true)) == model);

    const auto refusal = [&](const std::string& fields) {
        return error_message([&] { read(kMoe, {{R"("n_group": 4)", fields}}, true); });
    };
    check_contains(refusal(R"("num_nextn_predict_layers": 2)"),
                   "num_nextn_predict_layers is 2, but");
    check_contains(refusal(head + R"(, "mtp_hybrid_override_pattern": "*-")"),
                   "the prediction head is [attention, mlp] on a model with experts");
    check_contains(refusal(head + R"(, "mtp_layers_block_type": ["moe"])"), "--no-mtp leaves");
    check_contains(refusal(head + R"(, "mtp_block_configs": [{"block_type": "attention"}],
                               "mtp_hybrid_override_pattern": "*E")"),
                   "mtp_block_configs and mtp_hybrid_override_pattern disagree");
    check_contains(error_message([&] {
                       read(kDense, {{R"("expand": 2)", R"("num_nextn_predict_layers": 1)"}}, true);
                   }),
                   "on a model without experts");
}

TEST_CASE("absent and null fields take the family's defaults") {
    CHECK(read(kDense, {{R"("num_key_value_heads": 2)", R"("num_key_value_heads": null)"}})
              .layers[2]
              .attention.n_kv_heads == 6);
    CHECK(read(kDense, {{R"("head_dim": 32,)", ""}}).layers[2].attention.head_dim == 128);
    CHECK(read(kDense, {{R"("intermediate_size": 160)", R"("intermediate_size": [32, 64])"}})
              .layers[3]
              .n_ff == 64);
    CHECK(read(kDense, {{R"("expand": 2)", R"("tie_word_embeddings": true)"}}).tied_embeddings);
    CHECK(read(kMoe, {{R"("moe_latent_size": 16)", R"("moe_latent_size": null)"}})
              .layers[0]
              .moe.n_latent == 0);
    CHECK(read(kMoe, {{R"("n_shared_experts": 2)", R"("n_shared_experts": 0)"}})
              .layers[0]
              .moe.n_ff_shared == 0);
}

TEST_CASE("configurations that nemo cannot run are refused by name") {
    struct Case {
        const char* text;
        Edits edits;
        const char* message;
    };
    const Case cases[] = {
        {kDense,
         {{"NemotronHForCausalLM", "LlamaForCausalLM"}},
         "architectures is [\"LlamaForCausalLM\"]; supported: NemotronHForCausalLM"},
        {kDense,
         {{R"("architectures": ["NemotronHForCausalLM"], )", ""}, {"nemotron_h", "llama"}},
         "model_type is \"llama\""},
        {kDense, {{R"("expand": 2)", R"("block_configs": {})"}}, "block_configs is {}"},
        {kDense, {{R"("expand": 2)", R"("use_bias": true)"}}, "use_bias is true"},
        {kDense, {{R"("expand": 2)", R"("mamba_proj_bias": true)"}}, "mamba_proj_bias is true"},
        {kDense, {{R"("expand": 2)", R"("attention_bias": true)"}}, "attention_bias is true"},
        {kDense, {{R"("expand": 2)", R"("mlp_bias": true)"}}, "mlp_bias is true"},
        {kDense, {{R"("expand": 2)", R"("use_conv_bias": false)"}}, "use_conv_bias is false"},
        {kDense, {{R"("expand": 2)", R"("mlp_hidden_act": "gelu")"}}, "mlp_hidden_act is \"gelu\""},
        {kDense, {{R"("expand": 2)", R"("mamba_hidden_act": "relu")"}}, "mamba_hidden_act"},
        {kDense, {{R"("expand": 2)", R"("time_step_limit": [0.001, Infinity])"}}, "no limit"},
        {kDense, {{R"("expand": 2)", R"("time_step_limit": [0.0, 0.1])"}}, "no limit"},
        {kDense, {{R"("expand": 2)", R"("time_step_limit": [0.0, NaN])"}}, "no limit"},
        {kDense, {{R"("expand": 2)", R"("time_step_limit": 1)"}}, "expected two numbers"},
        {kDense, {{"M-*-", "M-*x"}}, "hybrid_override_pattern is \"M-*x\""},
        {kDense, {{R"("M-*-")", "[]"}}, "hybrid_override_pattern is []"},
        {kDense,
         {{R"("hybrid_override_pattern": "M-*-")", R"("layers_block_type": ["mlp", "ssm"])"}},
         "layers_block_type[1] is \"ssm\""},
        {kDense,
         {{R"("hybrid_override_pattern": "M-*-",)", ""}},
         "none of hybrid_override_pattern"},
        {kDense,
         {{R"("expand": 2)", R"("layer_types": ["mlp", "mlp", "mlp", "mlp"])"}},
         "disagree"},
        {kDense,
         {{R"("num_hidden_layers": 4)", R"("num_hidden_layers": 5)"}},
         "num_hidden_layers is 5, but the layer pattern has 4"},
        {kDense,
         {{R"("expand": 2)", R"("mamba_n_groups": 4)"}},
         "n_groups is 2, but mamba_n_groups is 4"},
        {kDense, {{R"("hidden_size": 96)", R"("hidden_size": 96.5)"}}, "hidden_size is 96.5"},
        {kDense, {{R"("hidden_size": 96)", R"("hidden_size": -1)"}}, "hidden_size is -1"},
        {kDense, {{R"("hidden_size": 96)", R"("hidden_size": 99999999999)"}}, "hidden_size is 999"},
        {kDense, {{R"("hidden_size": 96)", R"("hidden_size": null)"}}, "hidden_size is missing"},
        {kDense, {{R"("hidden_size": 96)", R"("hidden_size": 0)"}}, "hidden size is 0"},
        {kDense, {{"160", "[1, 2, 3]"}}, "intermediate_size has 3 entries, but there are 2"},
        {kDense, {{"160", "[1, \"2\"]"}}, "intermediate_size is \"2\""},
        {kDense, {{R"("n_groups": 2)", R"("n_groups": 3)"}}, "not a multiple of"},
        {kPuzzle,
         {{R"("moe_intermediate_size": 32, )", ""}},
         "block_configs[1]: moe_intermediate_size is missing"},
        {kPuzzle,
         {{R"("sliding_window": null)", R"("sliding_window": 512)"}},
         "block_configs[4]: sliding_window is 512; that it differs"},
        {kPuzzle,
         {{R"(null, "routed_scaling_factor": 5.0)", R"(null, "routed_scaling_factor": 2.0)"}},
         "block_configs[5]: routed_scaling_factor is 2.0; that it differs"},
        {kPuzzle,
         {{R"("block_type": "mlp"})", R"("block_type": "ffn"})"}},
         "block_configs[2]: block_type is \"ffn\", expected mamba"},
        {kPuzzle, {{R"({"block_type": "mlp"})", "{}"}}, "block_configs[2]: block_type is null"},
        {kPuzzle, {{R"({"block_type": "mlp"})", "1"}}, "block_configs[2] is 1, expected an object"},
        {kPuzzle,
         {{R"(["mamba", "moe")", R"(["moe", "moe")"}},
         "block_configs and layers_block_type disagree"},
        {kPuzzle,
         {{R"("num_experts_per_tok": 4)", R"("num_experts_per_tok": "4")"}},
         "block_configs[1]: num_experts_per_tok is \"4\""},
        {kMoe, {{R"("num_experts_per_tok": 3)", R"("num_experts_per_tok": 9)"}}, "experts is 9"},
        {kMoe, {{R"("n_routed_experts": 8, )", ""}}, "n_routed_experts is missing"},
        {kMoe, {{"false", "0"}}, "norm_topk_prob is 0, expected true or false"},
        {kMoe, {{"2.5", "\"2\""}}, "routed_scaling_factor is \"2\", expected a number"},
    };
    for (const Case& test : cases) {
        CAPTURE(test.message);
        const std::string message = error_message([&] { read(test.text, test.edits); });
        check_contains(message, "config.json: ");
        check_contains(message, test.message);
    }
    check_contains(error_message([] { config_from_hf(Json(1), "config.json"); }),
                   "not a JSON object");
}

}  // namespace
}  // namespace nemo
