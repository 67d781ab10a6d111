#include "convert/plan_report.h"

#include "checkpoint_fixture.h"

namespace nemo {
namespace {

class Planned {
public:
    explicit Planned(const TestCheckpoint& checkpoint) { checkpoint.write(folder); }
    ConversionPlan plan(DType type) { return make_plan(folder, type); }
    std::string message() {
        return error_message([&] { plan(DType::q8_0); });
    }

private:
    TempFolder parent_;

public:
    const std::filesystem::path folder = parent_ / "in";
};

DType dtype_of(const ConversionPlan& plan, const std::string& name) {
    const auto found = std::ranges::find(
        plan.tensors, name, [](const PlannedTensor& tensor) { return tensor.spec.name; });
    REQUIRE_MESSAGE(found != plan.tensors.end(), name);
    return found->dtype;
}

TEST_CASE("every matrix gets the requested type, what must be F32 stays F32") {
    const ConversionPlan plan = make_plan(kGoldenModels / "moe_latent", DType::q4_0);
    for (const PlannedTensor& tensor : plan.tensors) {
        CAPTURE(tensor.spec.name);
        CHECK(tensor.dtype == (tensor.spec.always_f32 ? DType::f32 : DType::q4_0));
    }
    for (const char* name : {"token_embd.weight", "output.weight", "blk.0.ssm_in.weight",
                             "blk.1.ffn_up_exps.weight", "blk.1.ffn_latent_down.weight"}) {
        CHECK(dtype_of(plan, name) == DType::q4_0);
    }
    for (const char* name : {"blk.0.ssm_conv1d.weight", "blk.0.ssm_a", "blk.0.ssm_norm.weight",
                             "blk.1.ffn_gate_inp.weight", "blk.1.exp_probs_b.bias"}) {
        CHECK(dtype_of(plan, name) == DType::f32);
    }
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "a prediction head with latent projections");
    CHECK(make_plan(kGoldenModels / "moe", DType::q4_0).warnings.empty());
}

TEST_CASE("rows that are no whole blocks become F16, with a note") {
    Planned planned(mlp_checkpoint(20));
    const ConversionPlan plan = planned.plan(DType::q8_0);
    CHECK(dtype_of(plan, "blk.0.ffn_up.weight") == DType::f16);
    CHECK(dtype_of(plan, "blk.0.ffn_down.weight") == DType::q8_0);
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0] ==
          "3 tensors become F16: rows of 20 are no whole blocks of Q8_0: token_embd.weight, "
          "blk.0.ffn_up.weight, output.weight");
    CHECK(planned.plan(DType::bf16).warnings.empty());
}

TEST_CASE("a mix without rows of 256 takes blocks of 32") {
    const ConversionPlan plan =
        make_plan(kGoldenModels / "dense", output_type_from_name("Q4_K_M").value());
    CHECK(plan.metadata.get_integer("general.file_type") == 15);
    CHECK(dtype_of(plan, "output.weight") == DType::q8_0);
    CHECK(dtype_of(plan, "token_embd.weight") == DType::q5_0);
    CHECK(dtype_of(plan, "blk.0.ssm_in.weight") == DType::q5_0);
    for (const PlannedTensor& tensor : plan.tensors) {
        if (tensor.spec.name == "token_embd.weight") CHECK(tensor.wanted == DType::q4_k);
        if (tensor.spec.name == "output_norm.weight") CHECK_FALSE(tensor.wanted);
    }
}

TEST_CASE("left-out tensors are counted and ten of them named") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    for (int i = 0; i < 12; ++i) {
        checkpoint.tensors.push_back(f32_tensor("vision." + std::to_string(i), {1}, 1));
    }
    const ConversionPlan plan = Planned(checkpoint).plan(DType::f32);
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "12 tensors are not part of the model");
    check_contains(plan.warnings[0], "vision.9, ...");
    CHECK_FALSE(contains(plan.warnings[0], "vision.10"));
}

TEST_CASE("the metadata says what the file is") {
    const ConversionPlan plan = make_plan(kGoldenModels / "moe", DType::bf16);
    CHECK(plan.metadata.get_string("general.architecture") == "nemotron_h_moe");
    CHECK(plan.metadata.get_string("general.name") == "moe");
    CHECK(plan.metadata.get_string("general.type") == "model");
    CHECK(plan.metadata.get_integer("general.file_type") == 32);
    CHECK(plan.metadata.get_integer("general.quantization_version") == 2);
    CHECK(plan.metadata.get_integer("nemotron_h_moe.block_count") == 4);
}

TEST_CASE("generation_config.json becomes sampling defaults") {
    Planned planned(mlp_checkpoint(32));
    CHECK_FALSE(planned.plan(DType::f32).metadata.contains("nemo.sampling.temperature"));
    const auto with = [&](const std::string& text) {
        write_file(planned.folder / "generation_config.json", text);
        return planned.plan(DType::f32).metadata;
    };
    const GgufMetadata sampled = with(R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95,
        "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1})");
    CHECK(sampled.get_real("nemo.sampling.temperature") == doctest::Approx(0.6));
    CHECK(sampled.get_real("nemo.sampling.top_p") == doctest::Approx(0.95));
    CHECK(sampled.get_integer("nemo.sampling.top_k") == 40);
    CHECK(sampled.get_real("nemo.sampling.min_p") == doctest::Approx(0.05));
    CHECK(sampled.get_real("nemo.sampling.repetition_penalty") == doctest::Approx(1.1));
    const GgufMetadata greedy = with(R"({"do_sample": false, "temperature": 0.6, "top_p": null})");
    CHECK(greedy.get_real("nemo.sampling.temperature") == 0.0);
    CHECK_FALSE(greedy.contains("nemo.sampling.top_p"));
    write_file(planned.folder / "generation_config.json", R"({"top_p": 1.5})");
    check_contains(planned.message(), "generation_config.json: top_p is 1.5, expected");
    write_file(planned.folder / "generation_config.json", R"({"temperature": "hot"})");
    check_contains(planned.message(), "temperature is \"hot\", expected");
}

TEST_CASE("the vocabulary is padded to the embedding table, and never cut") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    checkpoint.field("vocab_size") = Json(272);
    for (const char* name : {"backbone.embeddings.weight", "lm_head.weight"}) {
        checkpoint.tensor(name) = f32_tensor(name, {272, 32}, 9);
    }
    const GgufMetadata metadata = Planned(checkpoint).plan(DType::f32).metadata;
    const std::vector<std::string>& tokens = metadata.get_strings("tokenizer.ggml.tokens");
    REQUIRE(tokens.size() == 272);
    CHECK(tokens[263] != "[PAD263]");
    CHECK(tokens[264] == "[PAD264]");
    CHECK(tokens[271] == "[PAD271]");
    CHECK(metadata.get_integers("tokenizer.ggml.token_type")[271] == 5);

    checkpoint = mlp_checkpoint(32);
    checkpoint.field("vocab_size") = Json(200);
    for (const char* name : {"backbone.embeddings.weight", "lm_head.weight"}) {
        checkpoint.tensor(name) = f32_tensor(name, {200, 32}, 9);
    }
    check_contains(Planned(checkpoint).message(),
                   "the tokenizer has 264 tokens, but config.json has vocab_size 200");
}

TEST_CASE("a checkpoint lacking a part is refused") {
    Planned planned(mlp_checkpoint(32));
    check_contains(error_message([&] { make_plan(planned.folder / "nowhere", DType::f32); }),
                   "neither a folder nor a file");
    check_contains(error_message([&] { make_plan(planned.folder / "config.json", DType::f32); }),
                   "not a GGUF file");
    std::filesystem::remove(planned.folder / "tokenizer.json");
    check_contains(planned.message(), "tokenizer");
    std::filesystem::remove(planned.folder / "model.safetensors");
    check_contains(planned.message(), "not a safetensors checkpoint");
    std::filesystem::remove(planned.folder / "config.json");
    check_contains(planned.message(), "config.json");
}

TEST_CASE("the plan's table lists every tensor and adds up") {
    const ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::q8_0);
    const std::string table = plan_table(plan);
    CHECK(std::ranges::count(table, '\n') == std::ssize(plan.tensors) + 3 + 5);
    check_contains(table, "token_embd.weight");
    check_contains(table, "[32, 264]");
    check_contains(table, "8976");  // 264 rows of one 34-byte block
    check_contains(table, "131072 ");
}

}  // namespace
}  // namespace nemo
