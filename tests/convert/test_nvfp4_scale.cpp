// NVFP4 files: the factors beside the blocks, computed or taken over from the checkpoint.
#include "convert/convert.h"
#include "convert/verify.h"
#include "core/model_file.h"
#include "quant/codec.h"
#include "stored_fixture.h"

#include <cmath>
#include <limits>
#include <map>
#include <optional>

namespace nemo {
namespace {

constexpr int kExperts = 3;
constexpr int64_t kWidth = 64;
constexpr int64_t kMatrix = kWidth * kWidth;
const std::string kMixer = "backbone.layers.0.mixer.";
const ProgressCallback kSilent = [](const ConvertProgress&) {};

TestTensor matrix(const std::string& name, int64_t n_out, uint32_t seed, float size) {
    std::vector<float> values = test_values(n_out * kWidth, seed);
    for (float& value : values) value *= size;
    return f32(name, {n_out, kWidth}, values);
}

// One layer of experts, of very different size.
TestCheckpoint moe_checkpoint() {
    TestCheckpoint checkpoint;
    checkpoint.config = parse_json(
        R"({"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "E",
            "vocab_size": 264, "hidden_size": 64, "n_routed_experts": 3, "num_experts_per_tok": 2,
            "moe_intermediate_size": 64, "moe_latent_size": 64,
            "moe_shared_expert_intermediate_size": 64})",
        "test");
    checkpoint.tensors = {f32_tensor("backbone.layers.0.norm.weight", {kWidth}, 1),
                          f32_tensor("backbone.norm_f.weight", {kWidth}, 2),
                          f32_tensor(kMixer + "gate.e_score_correction_bias", {kExperts}, 3),
                          matrix(kMixer + "gate.weight", kExperts, 4, 1.0f),
                          matrix("backbone.embeddings.weight", 264, 5, 0.001f),
                          matrix("lm_head.weight", 264, 6, 3000.0f),
                          matrix(kMixer + "fc1_latent_proj.weight", kWidth, 7, 0.001f),
                          matrix(kMixer + "fc2_latent_proj.weight", kWidth, 8, 0.001f),
                          matrix(kMixer + "shared_experts.up_proj.weight", kWidth, 9, 0.001f),
                          matrix(kMixer + "shared_experts.down_proj.weight", kWidth, 10, 1.0f)};
    for (int i = 0; i < kExperts; ++i) {
        const std::string expert = kMixer + "experts." + std::to_string(i) + ".";
        const auto seed = static_cast<uint32_t>(20 + i);
        checkpoint.tensors.push_back(matrix(expert + "up_proj.weight", kWidth, seed,
                                            std::pow(0.01f, static_cast<float>(i))));
        checkpoint.tensors.push_back(matrix(expert + "down_proj.weight", kWidth, seed + 10, 0.0f));
    }
    return checkpoint;
}

// A checkpoint and the file made of it.
class Converted {
public:
    Converted(const TestCheckpoint& checkpoint, const std::string& type, int n_threads = 3) {
        checkpoint.write(folder_ / "in");
        write_model(make_plan(folder_ / "in", output_type_from_name(type).value()),
                    folder_ / "out.gguf", n_threads, kSilent);
        file_.emplace(ModelFile::open(folder_ / "out.gguf"));
    }

    const TensorView& tensor(const std::string& name) const {
        const TensorView* view = file_->find(name);
        REQUIRE_MESSAGE(view != nullptr, name);
        return *view;
    }
    bool has(const std::string& name) const { return file_->find(name) != nullptr; }
    std::vector<float> values(const std::string& name) const {
        const TensorView& view = tensor(name);
        std::vector<float> result(static_cast<size_t>(view.n_elements()));
        decode_row(view.dtype, view.data, result.data(), view.n_elements());
        return result;
    }
    // Sound, and this close to the checkpoint: by tensor name.
    std::map<std::string, double> errors() const {
        const VerifyReport report = verify_model(*file_, folder_ / "in", 1, kSilent);
        for (const std::string& problem : report.problems) FAIL_CHECK(problem);
        std::map<std::string, double> result;
        for (const TensorError& error : report.errors) result[error.name] = error.relative_rms;
        return result;
    }

private:
    TempFolder folder_;
    std::optional<ModelFile> file_;
};

TEST_CASE("small and large weights are as precise as any, each expert by itself") {
    const TestCheckpoint checkpoint = moe_checkpoint();
    const Converted file(checkpoint, "NVFP4");
    for (const auto& [name, error] : file.errors()) {
        CAPTURE(name);
        CHECK(error < 0.1);
    }
    const TensorView& up = file.tensor("blk.0.ffn_up_exps.weight");
    const TensorView& scale = file.tensor("blk.0.ffn_up_exps.scale");
    CHECK(up.dtype == DType::nvfp4);
    CHECK(scale.dtype == DType::f32);
    CHECK(scale.dims == std::array<int64_t, 4>{kExperts, 1, 1, 1});
    CHECK(file.tensor("output.scale").n_elements() == 1);
    const std::vector<float> blocks = file.values(up.name), factors = file.values(scale.name);
    for (int i = 0; i < kExperts; ++i) {
        const std::vector<float> weights = test_values(kMatrix, static_cast<uint32_t>(20 + i));
        const float size = std::pow(0.01f, static_cast<float>(i));
        double error = 0.0, norm = 0.0;
        for (int64_t j = 0; j < kMatrix; ++j) {
            const double original = weights[static_cast<size_t>(j)] * size;
            const double made =
                blocks[static_cast<size_t>(i * kMatrix + j)] * factors[static_cast<size_t>(i)];
            error += (made - original) * (made - original);
            norm += original * original;
        }
        CHECK(std::sqrt(error / norm) < 0.1);
    }
    // No weights: no factor to compute.
    CHECK(file.values("blk.0.ffn_down_exps.scale") == std::vector<float>(kExperts, 1.0f));
}

TEST_CASE("where llama.cpp applies no factor there is none") {
    const Converted file(moe_checkpoint(), "NVFP4");
    for (const char* name : {"token_embd", "blk.0.ffn_latent_down", "blk.0.ffn_latent_up"}) {
        CHECK(file.tensor(std::string(name) + ".weight").dtype == DType::iq4_nl);
        CHECK_FALSE(file.has(std::string(name) + ".scale"));
    }
}

TEST_CASE("the result does not depend on the number of threads") {
    const TestCheckpoint checkpoint = moe_checkpoint();
    const Converted one(checkpoint, "NVFP4", 1), many(checkpoint, "NVFP4", 7);
    for (const char* name : {"output", "blk.0.ffn_up_exps"})
        for (const char* part : {".weight", ".scale"})
            CHECK(one.values(std::string(name) + part) == many.values(std::string(name) + part));
}

TEST_CASE("a weight that is not finite ends the search for the largest") {
    TestCheckpoint checkpoint = moe_checkpoint();
    std::vector<float> values(static_cast<size_t>(264 * kWidth), 1.0f);
    values[7777] = std::numeric_limits<float>::infinity();
    checkpoint.tensor("lm_head.weight").bytes = raw_bytes(values);
    check_contains(error_message([&] { Converted(checkpoint, "NVFP4", 4); }),
                   "lm_head.weight: element 7777 is inf");
}

// ---- From checkpoints that store 4-bit floats ----

// Replaces a weight by its NVFP4 form with this factor.
void store_nvfp4(TestCheckpoint& checkpoint, const std::string& name, uint32_t seed, float factor) {
    TestTensor& weight = checkpoint.tensor(name);
    const int64_t n = count(weight.shape), n_rows = weight.shape[0];
    weight.dtype = "U8";
    weight.shape = {n_rows, kWidth / 2};
    weight.bytes = test_bytes(n / 2, seed, 0, 256);
    checkpoint.tensors.push_back(
        {name + "_scale", "F8_E4M3", {n_rows, kWidth / 16}, test_bytes(n / 16, seed + 1, 0, 127)});
    checkpoint.tensors.push_back(f32(name + "_scale_2", {}, {factor}));
    checkpoint.tensors.push_back(f32(name.substr(0, name.rfind('.')) + ".input_scale", {}, {1.0f}));
}

void store_mxfp4(TestCheckpoint& checkpoint, const std::string& name) {
    TestTensor& weight = checkpoint.tensor(name);
    const int64_t n = count(weight.shape), n_rows = weight.shape[0];
    weight.dtype = "U8";
    weight.shape = {n_rows, kWidth / 2};
    weight.bytes = test_bytes(n / 2, 7, 0, 256);
    checkpoint.tensors.push_back(
        {name + "_scale", "U8", {n_rows, kWidth / 32}, test_bytes(n / 32, 8, 100, 20)});
}

TEST_CASE("stored NVFP4 is taken over bit by bit, with its factors") {
    TestCheckpoint checkpoint = moe_checkpoint();
    for (int i = 0; i < kExperts; ++i)
        store_nvfp4(checkpoint, kMixer + "experts." + std::to_string(i) + ".up_proj.weight",
                    static_cast<uint32_t>(50 + i), 0.01f * static_cast<float>(i + 1));
    store_nvfp4(checkpoint, kMixer + "shared_experts.up_proj.weight", 60, 1.0f);
    const Converted file(checkpoint, "NVFP4");
    std::map<std::string, double> errors = file.errors();
    CHECK(errors.at("blk.0.ffn_up_exps.weight") == 0.0);
    CHECK(errors.at("blk.0.ffn_up_shexp.weight") == 0.0);
    CHECK(file.values("blk.0.ffn_up_exps.scale") == std::vector<float>{0.01f, 0.02f, 0.03f});
    CHECK_FALSE(file.has("blk.0.ffn_up_shexp.scale"));  // 1

    // Row 5 of expert 1 is one block: its scales as they were, its codes in their new order.
    const TensorView& up = file.tensor("blk.0.ffn_up_exps.weight");
    const std::byte* block = up.data + (kWidth + 5) * 36;
    const std::string name = kMixer + "experts.1.up_proj.weight";
    const TestTensor &codes = checkpoint.tensor(name), &scales = checkpoint.tensor(name + "_scale");
    for (int64_t i = 0; i < 4; ++i)
        CHECK(std::to_integer<int>(block[i]) == byte_of(scales, 5 * 4 + i));
    for (int i = 0; i < 64; ++i) {
        const int from = byte_of(codes, 5 * 32 + i / 2) >> i % 2 * 4 & 15;
        const int to = std::to_integer<int>(block[4 + i / 16 * 8 + i % 8]) >> i % 16 / 8 * 4 & 15;
        CHECK(from == to);
    }
    // As any other type it is what it stands for.
    errors = Converted(checkpoint, "Q8_0").errors();
    CHECK(errors.at("blk.0.ffn_up_exps.weight") < 0.02);
}

TEST_CASE("stored NVFP4 whose factors no reader would apply changes its type") {
    TestCheckpoint checkpoint = moe_checkpoint();
    store_nvfp4(checkpoint, kMixer + "fc1_latent_proj.weight", 60, 0.01f);
    store_nvfp4(checkpoint, kMixer + "fc2_latent_proj.weight", 62, 1.0f);
    const Converted file(checkpoint, "NVFP4");
    CHECK(file.tensor("blk.0.ffn_latent_down.weight").dtype == DType::iq4_nl);
    CHECK(file.tensor("blk.0.ffn_latent_up.weight").dtype == DType::nvfp4);
    CHECK(file.errors().at("blk.0.ffn_latent_up.weight") == 0.0);
    CHECK(file.errors().at("blk.0.ffn_latent_down.weight") < 0.15);
}

TEST_CASE("stored MXFP4 is taken over bit by bit wherever it is") {
    TestCheckpoint checkpoint = moe_checkpoint();
    store_mxfp4(checkpoint, kMixer + "shared_experts.up_proj.weight");
    const Converted file(checkpoint, "MXFP4");
    CHECK(file.tensor("blk.0.ffn_up_shexp.weight").dtype == DType::mxfp4);
    CHECK(file.errors().at("blk.0.ffn_up_shexp.weight") == 0.0);
    CHECK(file.tensor("blk.0.ffn_down_shexp.weight").dtype == DType::q8_0);
}

TEST_CASE("AUTO keeps what a file can have, and makes Q8_0 of FP8") {
    TestCheckpoint checkpoint = moe_checkpoint();
    for (int i = 0; i < kExperts; ++i)
        store_nvfp4(checkpoint, kMixer + "experts." + std::to_string(i) + ".up_proj.weight",
                    static_cast<uint32_t>(50 + i), 0.5f);
    store_nvfp4(checkpoint, kMixer + "fc1_latent_proj.weight", 60, 0.01f);
    store_mxfp4(checkpoint, kMixer + "shared_experts.up_proj.weight");
    TestTensor& down = checkpoint.tensor(kMixer + "shared_experts.down_proj.weight");
    down.dtype = "F8_E4M3";
    down.bytes = test_bytes(kMatrix, 9, 0, 120);
    checkpoint.tensors.push_back(f32(down.name + "_scale", {}, {0.25f}));
    TestTensor& table = checkpoint.tensor("backbone.embeddings.weight");
    table.dtype = "BF16";
    table.bytes = std::string(static_cast<size_t>(264 * kWidth * 2), '\x3c');
    const Converted file(checkpoint, "AUTO");
    for (const auto& [name, dtype] : {std::pair("blk.0.ffn_up_exps", DType::nvfp4),
                                      {"blk.0.ffn_latent_down", DType::q8_0},
                                      {"blk.0.ffn_up_shexp", DType::mxfp4},
                                      {"blk.0.ffn_down_shexp", DType::q8_0},
                                      {"token_embd", DType::bf16},
                                      {"output", DType::f32}}) {
        CAPTURE(name);
        CHECK(file.tensor(std::string(name) + ".weight").dtype == dtype);
        if (dtype != DType::q8_0) CHECK(file.errors().at(std::string(name) + ".weight") == 0.0);
    }
    CHECK(file.has("blk.0.ffn_up_exps.scale"));
}

TEST_CASE("scales of weights that nobody reads are refused, those of activations are not") {
    TestCheckpoint checkpoint = moe_checkpoint();
    for (const char* name : {"shared_experts.up_proj.input_scale", "k_proj.k_scale",
                             "experts.0.up_proj.input_global_scale"})
        checkpoint.tensors.push_back(f32(kMixer + name, {}, {1.0f}));
    checkpoint.tensors.push_back(f32("lm_head.input_scale", {}, {1.0f}));
    Converted(checkpoint, "Q8_0");
    checkpoint.tensors.push_back(f32(kMixer + "gone.weight_scale", {}, {1.0f}));
    check_contains(error_message([&] { Converted(checkpoint, "Q8_0"); }),
                   kMixer + "gone.weight_scale belongs to no weight that can be read");
}

}  // namespace
}  // namespace nemo
