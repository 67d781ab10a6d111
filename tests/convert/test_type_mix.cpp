// Which tensor gets which format. The expected formats are those that llama.cpp's quantizer
// (snapshot of August 2026) chose for a model of this shape.
#include "convert/type_mix.h"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {
namespace {

// One layer per letter: M Mamba-2, * attention, - MLP, E experts. All rows are multiples of 256.
ModelConfig config_of(std::string_view pattern) {
    ModelConfig config;
    config.n_vocab = 512;
    config.n_embd = 256;
    for (const char kind : pattern) {
        LayerConfig layer;
        layer.kind = kind == 'M'   ? LayerKind::mamba2
                     : kind == '*' ? LayerKind::attention
                     : kind == 'E' ? LayerKind::moe
                                   : LayerKind::mlp;
        layer.mamba2 = {8, 64, 64, 2, 4};
        layer.attention = {4, 2, 64};
        layer.n_ff = 768;
        layer.moe.router.n_experts = 16;
        layer.moe.n_ff = 256;
        layer.moe.n_ff_shared = 512;
        config.layers.push_back(layer);
    }
    return config;
}

using Types = std::map<std::string, DType>;

Types types_of(const ModelConfig& config, const char* type_name) {
    const std::vector<TensorSpec> specs = tensor_inventory(config);
    const std::vector<TensorType> types =
        choose_types(config, specs, output_type_from_name(type_name).value());
    REQUIRE(types.size() == specs.size());
    Types result;
    for (size_t i = 0; i < specs.size(); ++i) {
        CHECK((types[i].dtype == DType::f32) == specs[i].always_f32);
        result[specs[i].name] = types[i].dtype;
    }
    return result;
}

// The layers whose `suffix` has this type.
std::vector<int> layers_with(const Types& types, const std::string& suffix, DType dtype,
                             int n_layers) {
    std::vector<int> layers;
    for (int i = 0; i < n_layers; ++i) {
        const auto found = types.find("blk." + std::to_string(i) + "." + suffix + ".weight");
        if (found != types.end() && found->second == dtype) layers.push_back(i);
    }
    return layers;
}

using Layers = std::vector<int>;

constexpr const char* kPattern = "M-M*-M-M*-M-*MM-M*-M-M*-";
constexpr int kLayers = 24;

TEST_CASE("type names are found in any case") {
    CHECK(output_type_names().starts_with("F32, F16, BF16, Q8_0, Q4_0, Q6_K, Q5_K_M"));
    CHECK(output_type_from_name("q4_0")->base == DType::q4_0);
    CHECK(output_type_from_name("q4_k_m")->file_type == 15);
    CHECK(output_type_from_name("BF16")->base == DType::bf16);
    CHECK_FALSE(output_type_from_name("Q9"));
    CHECK_FALSE(output_type_from_name("Q4_K_"));
    CHECK_FALSE(output_type_from_name(""));
}

TEST_CASE("a format as a type has its own number, not that of a mix of it") {
    for (const char* name : {"F32", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "NVFP4"}) {
        CAPTURE(name);
        const OutputType named = output_type_from_name(name).value();
        const OutputType uniform = uniform_output_type(named.base);
        CHECK(uniform.name == named.name);
        CHECK(uniform.file_type == named.file_type);
        CHECK(uniform.rule == TypeRule::uniform);
    }
}

TEST_CASE("a single format goes to every matrix") {
    for (const char* name :
         {"F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q5_K", "Q4_K", "Q4_1", "Q4_0", "Q3_K"}) {
        CAPTURE(name);
        const ModelConfig config = config_of("M*-E");
        const OutputType type = output_type_from_name(name).value();
        const std::vector<TensorSpec> specs = tensor_inventory(config);
        const std::vector<TensorType> types = choose_types(config, specs, type);
        for (size_t i = 0; i < specs.size(); ++i)
            CHECK(types[i].dtype == (specs[i].always_f32 ? DType::f32 : type.base));
    }
}

TEST_CASE("NVFP4 goes to every matrix whose factors readers apply") {
    ModelConfig config = config_of("M*-E");
    config.layers[3].moe.n_latent = 128;
    const Types types = types_of(config, "NVFP4");
    for (const auto& [name, dtype] : types) {
        CAPTURE(name);
        const bool has_no_factor =
            name == "token_embd.weight" || name.find("latent") != std::string::npos;
        if (dtype != DType::f32) CHECK(dtype == (has_no_factor ? DType::iq4_nl : DType::nvfp4));
    }
    CHECK(types.at("blk.3.ffn_latent_up.weight") == DType::iq4_nl);
    CHECK(types.at("output.weight") == DType::nvfp4);
}

TEST_CASE("Q4_K_M and Q5_K_M give some values and down projections Q6_K") {
    const ModelConfig config = config_of(kPattern);
    for (const char* name : {"Q4_K_M", "Q5_K_M"}) {
        CAPTURE(name);
        const Types types = types_of(config, name);
        CHECK(types.at("output.weight") == DType::q6_k);
        CHECK(types.at("token_embd.weight") == output_type_from_name(name)->base);
        CHECK(types.at("blk.0.ssm_in.weight") == output_type_from_name(name)->base);
        CHECK(layers_with(types, "attn_v", DType::q6_k, kLayers) == Layers{12, 22});
        CHECK(layers_with(types, "ffn_down", DType::q6_k, kLayers) == Layers{1, 4, 6, 15, 23});
    }
}

TEST_CASE("the other K mixes") {
    const ModelConfig config = config_of(kPattern);
    const Types q4_k_s = types_of(config, "Q4_K_S");
    CHECK(layers_with(q4_k_s, "attn_v", DType::q5_k, kLayers) == Layers{3, 8, 12, 17});
    CHECK(layers_with(q4_k_s, "ffn_down", DType::q5_k, kLayers) == Layers{1, 4, 6});
    const Types q3_k_m = types_of(config, "Q3_K_M");
    CHECK(layers_with(q3_k_m, "attn_v", DType::q5_k, kLayers) == Layers{3, 8});
    CHECK(layers_with(q3_k_m, "ffn_down", DType::q5_k, kLayers) == Layers{1});
    CHECK(q3_k_m.at("blk.6.ffn_down.weight") == DType::q4_k);
    CHECK(q3_k_m.at("blk.3.attn_output.weight") == DType::q4_k);
    CHECK(q3_k_m.at("blk.3.attn_q.weight") == DType::q3_k);
    const Types q2_k = types_of(config, "Q2_K");
    CHECK(q2_k.at("blk.3.attn_v.weight") == DType::q3_k);
    CHECK(q2_k.at("blk.3.attn_output.weight") == DType::q3_k);
    CHECK(q2_k.at("blk.1.ffn_down.weight") == DType::q3_k);
    CHECK(q2_k.at("blk.1.ffn_up.weight") == DType::q2_k);
    const Types iq4_xs = types_of(config, "IQ4_XS");
    CHECK(layers_with(iq4_xs, "ffn_down", DType::q5_k, kLayers) == Layers{1, 4, 6});
    CHECK(iq4_xs.at("blk.3.attn_v.weight") == DType::iq4_xs);
    for (const char* name : {"Q6_K", "Q5_K_S"}) {
        for (const auto& [tensor, dtype] : types_of(config, name)) {
            CAPTURE(tensor);
            const DType expected =
                tensor == "output.weight" ? DType::q6_k : output_type_from_name(name)->base;
            CHECK((dtype == expected || dtype == DType::f32));
        }
    }
}

TEST_CASE("with experts the layer's own number decides") {
    const Types types = types_of(config_of("MEMEM*EMEMEM*EME"), "Q4_K_M");
    // Of 16 layers 0, 1, then 4, 7, 10, 13, then 14, 15; experts are in 1 3 6 8 10 13 15.
    for (const char* suffix : {"ffn_down_exps", "ffn_down_shexp"})
        CHECK(layers_with(types, suffix, DType::q6_k, 16) == Layers{1, 10, 13, 15});
}

TEST_CASE("a tied embedding table counts as the head") {
    ModelConfig config = config_of(kPattern);
    config.tied_embeddings = true;
    const Types types = types_of(config, "Q4_K_M");
    CHECK(types.at("token_embd.weight") == DType::q6_k);
    CHECK_FALSE(types.contains("output.weight"));
}

TEST_CASE("MXFP4 is for experts, or for the layers of a model without them") {
    const Types moe = types_of(config_of("M*E"), "MXFP4");
    CHECK(moe.at("blk.2.ffn_up_exps.weight") == DType::mxfp4);
    CHECK(moe.at("blk.2.ffn_down_exps.weight") == DType::mxfp4);
    for (const char* name : {"token_embd", "output", "blk.0.ssm_in", "blk.1.attn_v",
                             "blk.1.attn_output", "blk.2.ffn_down_shexp"})
        CHECK(moe.at(std::string(name) + ".weight") == DType::q8_0);
    const Types dense = types_of(config_of("M*-"), "MXFP4");
    for (const char* name : {"blk.0.ssm_in", "blk.1.attn_v", "blk.2.ffn_down"})
        CHECK(dense.at(std::string(name) + ".weight") == DType::mxfp4);
    CHECK(dense.at("output.weight") == DType::q8_0);
    CHECK(dense.at("token_embd.weight") == DType::q8_0);
}

TEST_CASE("rows that are no multiples of 256 get blocks of 32, or F16") {
    ModelConfig config = config_of("M*-");
    config.n_embd = 96;
    config.layers[2].n_ff = 40;
    const auto check = [&](const char* type, DType expected, DType head) {
        CAPTURE(type);
        const Types types = types_of(config, type);
        CHECK(types.at("blk.2.ffn_up.weight") == expected);
        CHECK(types.at("output.weight") == head);
        CHECK(types.at("blk.2.ffn_down.weight") == DType::f16);
    };
    check("Q2_K", DType::q4_0, DType::q8_0);
    check("Q3_K_M", DType::q4_0, DType::q8_0);
    check("Q4_K_M", DType::q5_0, DType::q8_0);
    check("Q5_K_S", DType::q5_1, DType::q8_0);
    check("Q6_K", DType::q8_0, DType::q8_0);
    check("IQ4_XS", DType::iq4_nl, DType::q8_0);
    check("Q4_0", DType::q4_0, DType::q4_0);
    CHECK(types_of(config, "Q4_K_M").at("blk.0.ssm_out.weight") == DType::q4_k);
}

}  // namespace
}  // namespace nemo
