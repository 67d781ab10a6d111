// NemotronForCausalLM: its config.json, its tensors' names, LayerNorm1P.
#include "checkpoint_fixture.h"
#include "convert/hf_config.h"
#include "convert/plan.h"
#include "quant/half.h"

#include <utility>

namespace nemo {
namespace {

const char* const kMinitron = R"({
    "architectures": ["NemotronForCausalLM"], "model_type": "nemotron", "hidden_act": "relu2",
    "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 32, "norm_eps": 1e-6, "partial_rotary_factor": 0.25,
    "rope_theta": 500.0, "vocab_size": 384, "max_position_embeddings": 4096})";

using Edits = std::vector<std::pair<std::string, std::string>>;
ModelConfig read(const Edits& edits = {}) {
    std::string text = kMinitron;
    for (const auto& [from, to] : edits) {
        const size_t at = text.find(from);
        REQUIRE_MESSAGE(at != std::string::npos, from);
        text.replace(at, from.size(), to);
    }
    return config_from_hf(parse_json(text, "config.json"), "config.json");
}

std::string described(const ModelConfig& config) {
    std::string text = fmt::format("{} h{} eps{} norm{}", config.architecture, config.n_embd,
                                   config.norm_eps, static_cast<int>(config.norm));
    for (const LayerConfig& layer : config.layers) {
        const AttentionShape& a = layer.attention;
        if (layer.kind == LayerKind::attention)
            text +=
                fmt::format(" attention({},{},{} rotary {},{},{})", a.n_heads, a.n_kv_heads,
                            a.head_dim, a.rotary.n_dims, a.rotary.theta, a.rotary.position_scale);
        else
            text += fmt::format(" {}({})", layer_kind_name(layer.kind), layer.n_ff);
    }
    return text;
}

TEST_CASE("a block of NemotronForCausalLM is an attention and an MLP layer") {
    CHECK(described(read()) ==
          "nemotron h96 eps1e-06 norm1 attention(6,2,32 rotary 8,500,1) mlp(160) "
          "attention(6,2,32 rotary 8,500,1) mlp(160)");
    CHECK(read().n_blocks() == 2);
}

TEST_CASE("every spelling of a Nemotron configuration means the same") {
    const std::vector<Edits> spellings = {
        {{R"("architectures": ["NemotronForCausalLM"], )", ""}},
        {{R"("head_dim")", R"("kv_channels")"}},
        {{R"("head_dim")", R"("kv_channels": 32, "head_dim")"}},
        {{R"("partial_rotary_factor")", R"("rope_percent")"}},
        {{R"("partial_rotary_factor")", R"("rope_percentage")"}},
        {{R"("norm_eps")", R"("layer_norm_epsilon")"}},
        {{R"("hidden_act")", R"("rope_scaling": null, "attention_bias": false, "hidden_act")"}},
        {{R"("partial_rotary_factor": 0.25,)", ""},
         {R"("rope_theta": 500.0)",
          R"("rope_parameters": {"rope_type": "default", "rope_theta": 500.0,
              "partial_rotary_factor": 0.25})"}},
    };
    const std::string expected = described(read());
    for (const Edits& edits : spellings) {
        CAPTURE(edits.front().second);
        CHECK(described(read(edits)) == expected);
    }
}

TEST_CASE("absent fields of a Nemotron configuration take its defaults") {
    const auto attention = [](const Edits& edits) { return read(edits).layers[0].attention; };
    CHECK(attention({{R"("head_dim": 32, )", ""}}).head_dim == 16);
    CHECK(attention({{R"("num_key_value_heads": 2, )", ""}}).n_kv_heads == 6);
    CHECK(attention({{R"("partial_rotary_factor": 0.25,)", ""}}).rotary.n_dims == 16);
    CHECK(attention({{R"("rope_theta": 500.0, )", ""}}).rotary.theta == 10000.0f);
    CHECK(attention({{R"("hidden_act")",
                      R"("rope_scaling": {"type": "linear", "factor": 4.0}, "hidden_act")"}})
              .rotary.position_scale == 0.25f);
}

TEST_CASE("Nemotron configurations that nemo cannot run are refused by name") {
    const std::pair<Edits, const char*> cases[] = {
        {{{"relu2", "gelu"}}, "hidden_act is \"gelu\""},
        {{{R"("hidden_act")", R"("attention_bias": true, "hidden_act")"}},
         "attention_bias is true"},
        {{{R"("hidden_act")", R"("mlp_bias": true, "hidden_act")"}}, "mlp_bias is true"},
        {{{R"("hidden_act")", R"("rope_scaling": {"type": "yarn"}, "hidden_act")"}},
         "rope_type is \"yarn\""},
        {{{R"("hidden_act")", R"("rope_scaling": 2, "hidden_act")"}}, "rope_scaling is 2"},
        {{{R"("hidden_act")",
           R"("rope_scaling": {"rope_type": "linear", "factor": 0}, "hidden_act")"}},
         "factor is 0"},
        {{{"0.25", "1.5"}}, "partial_rotary_factor is 1.5"},
        {{{"0.25", "0.1"}}, "rotary dimensions is 3, which is odd"},
        {{{R"("head_dim": 32, )", ""}, {"96", "97"}}, "head_dim is missing, and hidden_size 97"},
        {{{R"("num_hidden_layers": 2)", R"("num_hidden_layers": 2000000000)"}},
         "blocks is 2000000000"},
        {{{R"("intermediate_size": 160, )", ""}}, "intermediate_size is missing"},
    };
    for (const auto& [edits, expected] : cases) {
        CAPTURE(expected);
        check_contains(error_message([&] { read(edits); }), expected);
    }
}

TEST_CASE("LayerNorm1P: the file's weights are the checkpoint's plus one, biases are as they are") {
    TestCheckpoint checkpoint = golden_checkpoint("nemotron");
    const TempFolder folder;
    std::filesystem::copy(kGoldenModels / "nemotron", folder / "in");
    const ConversionPlan plan = make_plan(folder / "in", DType::f32);
    const auto values = [&](const std::string& name) {
        const auto found = std::ranges::find_if(
            plan.tensors, [&](const PlannedTensor& t) { return t.spec.name == name; });
        REQUIRE_MESSAGE(found != plan.tensors.end(), name);
        std::vector<float> read_values(static_cast<size_t>(found->spec.dims[0]));
        found->source->read(0, std::ssize(read_values), read_values.data());
        return read_values;
    };
    const auto stored = [&](const std::string& name) {
        const TestTensor& tensor = checkpoint.tensor(name);
        REQUIRE(tensor.dtype == "BF16");
        std::vector<float> result;
        for (size_t i = 0; i < tensor.bytes.size(); i += 2) {
            uint16_t bits = 0;
            std::memcpy(&bits, tensor.bytes.data() + i, sizeof bits);
            result.push_back(bf16_to_f32(bits));
        }
        return result;
    };
    const std::pair<const char*, const char*> norms[] = {
        {"blk.1.attn_norm", "model.layers.1.input_layernorm"},
        {"blk.1.ffn_norm", "model.layers.1.post_attention_layernorm"},
        {"output_norm", "model.norm"}};
    for (const auto& [gguf, name] : norms) {
        CAPTURE(gguf);
        std::vector<float> weight = stored(std::string(name) + ".weight");
        for (float& value : weight) value += 1.0f;
        CHECK(values(std::string(gguf) + ".weight") == weight);
        CHECK(values(std::string(gguf) + ".bias") == stored(std::string(name) + ".bias"));
    }
    CHECK(plan.warnings.empty());
}

}  // namespace
}  // namespace nemo
