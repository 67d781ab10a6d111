// GGUF keys to ModelConfig and back, and the checks of both.
#include "core/error.h"
#include "core/gguf_writer.h"
#include "models/config.h"
#include "models/inventory.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

using namespace nemo;

namespace {

ModelConfig every_kind() {
    ModelConfig config;
    config.architecture = "nemotron_h_moe";
    config.name = "all kinds";
    config.n_vocab = 16;
    config.n_embd = 32;
    config.n_context = 4096;
    LayerConfig mamba2 = {.kind = LayerKind::mamba2};
    mamba2.mamba2 = {
        .n_heads = 4, .head_dim = 8, .state_size = 16, .n_groups = 2, .conv_kernel = 4};
    LayerConfig attention = {.kind = LayerKind::attention};
    attention.attention = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 16};
    LayerConfig moe = {.kind = LayerKind::moe};
    moe.moe = {.router = {.n_experts = 8,
                          .n_used = 2,
                          .n_groups = 2,
                          .n_groups_used = 1,
                          .normalize = true,
                          .scale = 2.5f},
               .n_ff = 64,
               .n_ff_shared = 96,
               .n_latent = 32};
    LayerConfig mlp = {.kind = LayerKind::mlp, .n_ff = 128};
    config.layers = {mamba2, mamba2, moe, attention, mlp};
    return config;
}

// A file with this configuration's keys, changed by `edit`, and zero tensors of its inventory.
template <class Edit>
ModelFile file_of(const TempFolder& folder, const ModelConfig& config, const Edit& edit) {
    GgufMetadata metadata;
    add_config_metadata(config, metadata);
    edit(metadata);
    std::vector<GgufTensorInfo> tensors;
    for (const TensorSpec& spec : tensor_inventory(config))
        tensors.push_back({spec.name, DType::f32, spec.dims, spec.n_dims});
    GgufWriter writer(folder / "m.gguf", metadata, tensors);
    for (const GgufTensorInfo& tensor : tensors)
        writer.write(std::vector<std::byte>(tensor.n_bytes()));
    writer.finish();
    return ModelFile::open(folder / "m.gguf");
}

}  // namespace

TEST_CASE("a configuration survives the file") {
    const TempFolder folder;
    const ModelConfig config = every_kind();
    const ModelConfig read = config_from_gguf(file_of(folder, config, [](GgufMetadata&) {}));
    CHECK(read.architecture == config.architecture);
    CHECK(read.name == config.name);
    CHECK(read.n_vocab == 16);
    CHECK(read.n_embd == 32);
    CHECK(read.n_context == 4096);
    CHECK_FALSE(read.tied_embeddings);
    REQUIRE(read.layers.size() == 5);
    CHECK(read.layers[0].kind == LayerKind::mamba2);
    CHECK(read.layers[0].mamba2.head_dim == 8);
    CHECK(read.layers[0].mamba2.n_groups == 2);
    CHECK(read.layers[2].kind == LayerKind::moe);
    CHECK(read.layers[2].moe.router.n_used == 2);
    CHECK(read.layers[2].moe.router.n_groups == 2);
    CHECK(read.layers[2].moe.router.scale == 2.5f);
    CHECK(read.layers[2].moe.n_ff == 64);
    CHECK(read.layers[2].moe.n_ff_shared == 96);
    CHECK(read.layers[2].moe.n_latent == 32);
    CHECK(read.layers[3].kind == LayerKind::attention);
    CHECK(read.layers[3].attention.head_dim == 16);
    // A dense layer among experts is recognised by its tensors: no key tells.
    CHECK(read.layers[4].kind == LayerKind::mlp);
    CHECK(read.layers[4].n_ff == 128);
}

// Two layers of every kind that differ in every dimension, with a layer without shared expert.
ModelConfig varying_layers() {
    ModelConfig config = every_kind();
    std::vector<LayerConfig> others = config.layers;
    others[0].mamba2 = {
        .n_heads = 6, .head_dim = 10, .state_size = 96, .n_groups = 3, .conv_kernel = 3};
    others[2].moe.router = {.n_experts = 12,
                            .n_used = 3,
                            .n_groups = 3,
                            .n_groups_used = 2,
                            .normalize = true,
                            .scale = 2.5f};
    others[2].moe.n_ff = 160;
    others[2].moe.n_ff_shared = 0;
    others[2].moe.n_latent = 0;
    others[3].attention = {.n_heads = 6, .n_kv_heads = 3, .head_dim = 8};
    others[4].n_ff = 64;
    config.layers.insert(config.layers.end(), others.begin(), others.end());
    return config;
}

std::string described(const LayerConfig& layer) {
    const Mamba2Shape& m = layer.mamba2;
    const AttentionShape& a = layer.attention;
    const MoeShape& e = layer.moe;
    switch (layer.kind) {
        case LayerKind::mamba2:
            return fmt::format("mamba2 {} {} {} {} {}", m.n_heads, m.head_dim, m.state_size,
                               m.n_groups, m.conv_kernel);
        case LayerKind::attention:
            return fmt::format("attention {} {} {}", a.n_heads, a.n_kv_heads, a.head_dim);
        case LayerKind::mlp:
            return fmt::format("mlp {}", layer.n_ff);
        case LayerKind::moe:
            return fmt::format("moe {} {} {} {} {} {} {}", e.router.n_experts, e.router.n_used,
                               e.router.n_groups, e.router.n_groups_used, e.n_ff, e.n_ff_shared,
                               e.n_latent);
    }
    return "?";
}

TEST_CASE("dimensions that vary from layer to layer survive the file, as arrays") {
    const TempFolder folder;
    const ModelConfig config = varying_layers();
    const ModelFile file = file_of(folder, config, [](GgufMetadata&) {});
    const ModelConfig read = config_from_gguf(file);
    REQUIRE(read.layers.size() == 10);
    for (size_t i = 0; i < 10; ++i) CHECK(described(read.layers[i]) == described(config.layers[i]));

    const auto numbers = [&](const char* key) {
        return file.metadata().get_integers(std::string("nemotron_h_moe.") + key);
    };
    using Numbers = std::vector<int64_t>;
    CHECK(numbers("expert_count") == Numbers{0, 0, 8, 0, 0, 0, 0, 12, 0, 0});
    CHECK(numbers("expert_used_count") == Numbers{0, 0, 2, 0, 0, 0, 0, 3, 0, 0});
    CHECK(numbers("expert_feed_forward_length") == Numbers{0, 0, 64, 0, 0, 0, 0, 160, 0, 0});
    CHECK(numbers("expert_shared_count") == Numbers{0, 0, 1, 0, 0, 0, 0, 0, 0, 0});
    CHECK(numbers("ssm.state_size") == Numbers{16, 16, 0, 0, 0, 96, 16, 0, 0, 0});
    // llama.cpp takes the head size from the first entry.
    CHECK(numbers("attention.head_count") == Numbers{4, 4, 4, 4, 4, 4, 4, 4, 6, 4});
}

TEST_CASE("dimensions on which all layers agree are one number, as llama.cpp wants it") {
    GgufMetadata metadata;
    add_config_metadata(every_kind(), metadata);
    for (const char* key :
         {"expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_count",
          "expert_shared_feed_forward_length", "expert_group_count", "expert_group_used_count",
          "moe_latent_size", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
          "ssm.time_step_rank", "ssm.group_count", "attention.head_count", "attention.key_length",
          "attention.value_length"}) {
        CAPTURE(key);
        CHECK(metadata.find(std::string("nemotron_h_moe.") + key)->type == GgufType::u32);
    }
}

TEST_CASE("prediction blocks are the last blocks of the file") {
    const TempFolder folder;
    ModelConfig config = every_kind();
    PredictionBlock block = {config.layers[3].attention, config.layers[2].moe};
    block.attention.n_kv_heads = 1;
    block.moe.router.n_used = 3;
    config.prediction_blocks = {block};
    CHECK(config.n_blocks() == 6);
    const ModelFile file = file_of(folder, config, [](GgufMetadata&) {});
    CHECK(file.metadata().get_integer("nemotron_h_moe.block_count") == 6);
    CHECK(file.metadata().get_integers("nemotron_h_moe.expert_used_count") ==
          std::vector<int64_t>{0, 0, 2, 0, 0, 3});
    CHECK(file.metadata().find("nemotron_h_moe.expert_count")->type == GgufType::u32);
    const ModelConfig read = config_from_gguf(file);
    CHECK(read.layers.size() == 5);
    REQUIRE(read.prediction_blocks.size() == 1);
    CHECK(read.prediction_blocks[0].attention.n_kv_heads == 1);
    CHECK(read.prediction_blocks[0].attention.head_dim == 16);
    CHECK(read.prediction_blocks[0].moe.router.n_used == 3);
    CHECK(read.prediction_blocks[0].moe.n_latent == 32);

    config.prediction_blocks[0].moe.router.n_used = 9;
    CHECK_THROWS_WITH_AS(check_config(config, "m"), doctest::Contains("used experts is 9"), Error);
}

TEST_CASE("layers that weigh their experts differently are refused: files cannot say it") {
    ModelConfig config = varying_layers();
    config.layers[7].moe.router.scale = 1.0f;
    CHECK_THROWS_WITH_AS(check_config(config, "m"),
                         doctest::Contains("scaling factor or norm_topk_prob differs"), Error);
}

// A Transformer of two blocks whose heads are wider than n_embd / n_heads.
ModelConfig transformer() {
    ModelConfig config;
    config.architecture = "nemotron";
    config.n_vocab = 16;
    config.n_embd = 32;
    config.n_context = 4096;
    config.norm = NormKind::layer;
    config.norm_eps = 1e-6f;
    config.layers_per_block = 2;
    LayerConfig attention = {.kind = LayerKind::attention};
    attention.attention = {.n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 16,
                           .rotary = {.n_dims = 6, .theta = 500.0f, .position_scale = 0.25f}};
    const LayerConfig mlp = {.kind = LayerKind::mlp, .n_ff = 128};
    config.layers = {attention, mlp, attention, mlp};
    return config;
}

TEST_CASE("a Transformer block is two layers, attention and MLP, with a norm each") {
    const TempFolder folder;
    const ModelFile file = file_of(folder, transformer(), [](GgufMetadata&) {});
    CHECK(file.metadata().get_integer("nemotron.block_count") == 2);
    CHECK(file.metadata().get_real("nemotron.rope.scaling.factor") == 4.0);
    for (const char* name : {"blk.1.attn_norm.weight", "blk.1.attn_norm.bias",
                             "blk.1.attn_q.weight", "blk.1.ffn_norm.weight", "blk.1.ffn_norm.bias",
                             "blk.1.ffn_up.weight", "output_norm.bias"})
        CHECK_MESSAGE(file.find(name) != nullptr, name);
    CHECK(file.find("blk.2.attn_norm.weight") == nullptr);

    const ModelConfig read = config_from_gguf(file);
    CHECK(read.norm == NormKind::layer);
    CHECK(read.norm_eps == 1e-6f);
    CHECK(read.n_blocks() == 2);
    REQUIRE(read.layers.size() == 4);
    CHECK(described(read.layers[2]) == "attention 4 2 16");
    CHECK(read.layers[2].attention.rotary.n_dims == 6);
    CHECK(read.layers[2].attention.rotary.theta == 500.0f);
    CHECK(read.layers[2].attention.rotary.position_scale == 0.25f);
    CHECK(described(read.layers[3]) == "mlp 128");
}

TEST_CASE("a Transformer's keys: llama.cpp's defaults, and what is refused") {
    const auto read = [](const char* key, GgufValue value) {
        const TempFolder folder;
        return config_from_gguf(file_of(folder, transformer(), [&](GgufMetadata& metadata) {
            metadata.set(std::string("nemotron.") + key, value);
        }));
    };
    const auto scale = [](const ModelConfig& config) {
        return config.layers[0].attention.rotary.position_scale;
    };
    CHECK(scale(read("rope.scaling.type", {GgufType::string, false, std::string("none")})) == 1.0f);
    CHECK_THROWS_WITH_AS(read("rope.scaling.type", {GgufType::string, false, std::string("yarn")}),
                         doctest::Contains("rope.scaling.type is yarn"), Error);
    CHECK_THROWS_WITH_AS(read("rope.scaling.factor", {GgufType::f32, false, 0.0}),
                         doctest::Contains("rotary scale is inf"), Error);
    CHECK_THROWS_WITH_AS(read("rope.dimension_count", {GgufType::u32, false, int64_t{5}}),
                         doctest::Contains("rotary dimensions is 5, which is odd"), Error);
    CHECK_THROWS_WITH_AS(read("rope.dimension_count", {GgufType::u32, false, int64_t{18}}),
                         doctest::Contains("0 to 16 is supported"), Error);
    CHECK_THROWS_WITH_AS(read("rope.freq_base", {GgufType::f32, false, -1.0}),
                         doctest::Contains("rotary base is -1"), Error);
    CHECK_THROWS_WITH_AS(read("block_count", {GgufType::u32, false, int64_t{513}}),
                         doctest::Contains("blocks is 513"), Error);
}

TEST_CASE("llama.cpp's spellings are read: u32 arrays, scalars, a prediction block at the end") {
    const TempFolder folder;
    const ModelConfig config = every_kind();
    const ModelFile file = file_of(folder, config, [](GgufMetadata& metadata) {
        metadata.set_u32_array("nemotron_h_moe.feed_forward_length", {0, 0, 64, 0, 128, 64});
        metadata.set_u32_array("nemotron_h_moe.attention.head_count_kv", {0, 0, 0, 2, 0, 2});
        metadata.set_u32("nemotron_h_moe.block_count", 6);
        metadata.set_u32("nemotron_h_moe.nextn_predict_layers", 1);
    });
    const ModelConfig read = config_from_gguf(file);
    CHECK(read.layers.size() == 5);
    REQUIRE(read.prediction_blocks.size() == 1);
    CHECK(read.prediction_blocks[0].attention.n_kv_heads == 2);
    CHECK(read.prediction_blocks[0].moe.n_ff == 64);
}

TEST_CASE("what tensors are, and which layers attention looks at") {
    for (const auto& [name, stem] : {std::pair("blk.12.ffn_down_exps.weight", "ffn_down_exps"),
                                     {"output.weight", "output"},
                                     {"blk.0.ssm_a", "ssm_a"},
                                     {"blk.", "blk"}})
        CHECK(tensor_stem(name) == stem);
    ModelConfig config = every_kind();
    const LayerConfig mamba = config.layers[0];
    REQUIRE(mamba.kind == LayerKind::mamba2);
    LayerConfig mlp = {.kind = LayerKind::mlp};
    mlp.n_ff = 32;
    LayerConfig attention = {.kind = LayerKind::attention};
    attention.attention = {4, 2, 16};
    config.layers = {attention, mamba, mamba, mlp, attention, attention, mamba};
    CHECK(layers_before_attention(tensor_inventory(config)) == std::set<int>{2});
}

TEST_CASE("numbers that make no model are refused by name") {
    const auto message_after = [](const auto& edit) -> std::string {
        const TempFolder folder;
        try {
            config_from_gguf(file_of(folder, every_kind(), edit));
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::bad_file);
            return error.what();
        }
        return "";
    };
    const auto set_u32 = [](const char* key, uint32_t value) {
        return [=](GgufMetadata& metadata) {
            metadata.set_u32(std::string("nemotron_h_moe.") + key, value);
        };
    };
    const auto check_message = [&](const auto& edit, const char* part) {
        const std::string message = message_after(edit);
        CAPTURE(message);
        CHECK(message.find(part) != std::string::npos);
    };
    check_message(
        [](GgufMetadata& metadata) { metadata.set_string("general.architecture", "llama"); },
        "architecture llama");
    check_message(set_u32("block_count", 0), "block_count: the number of blocks is 0");
    check_message(set_u32("block_count", 7), "5 entries, but the model has 7 layers");
    check_message(set_u32("embedding_length", 0), "hidden size is 0");
    check_message(set_u32("ssm.group_count", 3), "not a multiple of groups = 3");
    check_message(set_u32("ssm.group_count", 0), "groups is 0");
    check_message(set_u32("ssm.time_step_rank", 0), "time_step_rank = 0");
    check_message(set_u32("ssm.conv_kernel", 0), "convolution width is 0");
    check_message(set_u32("ssm.conv_kernel", 4000000000u), "convolution width is 4000000000");
    check_message(set_u32("attention.head_count", 3), "not a multiple of key-value heads");
    check_message(set_u32("expert_used_count", 9), "used experts is 9");
    check_message(set_u32("expert_used_count", 5), "1 to 4 is supported");
    check_message(set_u32("expert_group_count", 3), "expert groups = 3");
    check_message(
        [](GgufMetadata& metadata) {
            metadata.set_f32("nemotron_h_moe.attention.layer_norm_rms_epsilon", 0.0f);
        },
        "epsilon is 0");
}
