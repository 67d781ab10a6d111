#include "convert/tensor_source.h"

#include "checkpoint_fixture.h"
#include "convert/hf_config.h"

#include <cmath>
#include <limits>

namespace nemo {
namespace {

// A checkpoint on disk, bound tensor by tensor.
class Bound {
public:
    explicit Bound(const TestCheckpoint& checkpoint) {
        checkpoint.write(folder_ / "in");
        weights_ = SafetensorsSet::open(folder_ / "in");
        specs_ = tensor_inventory(config_from_hf(checkpoint.config, "config.json"));
    }

    WeightSourcePtr source(const std::string& name) {
        const auto spec = std::ranges::find(specs_, name, &TensorSpec::name);
        REQUIRE_MESSAGE(spec != specs_.end(), name);
        return tensors().bind(*spec);
    }
    std::vector<float> values(const std::string& name) {
        const auto spec = std::ranges::find(specs_, name, &TensorSpec::name);
        REQUIRE_MESSAGE(spec != specs_.end(), name);
        std::vector<float> result(
            static_cast<size_t>(spec->dims[0] * spec->dims[1] * spec->dims[2]));
        source(name)->read(0, std::ssize(result), result.data());
        return result;
    }
    std::vector<std::string> unused() {
        CheckpointTensors bound = tensors();
        for (const TensorSpec& spec : specs_) bound.bind(spec);
        return bound.unused_tensors(true);
    }

private:
    CheckpointTensors tensors() const {
        return {weights_, read_quantization_config(folder_ / "in"), "CHECKPOINT"};
    }

    TempFolder folder_;
    SafetensorsSet weights_;
    std::vector<TensorSpec> specs_;
};

std::vector<float> floats(const TestTensor& tensor) {
    REQUIRE(tensor.dtype == "F32");
    std::vector<float> values(tensor.bytes.size() / 4);
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
}

const char* const kUp = "backbone.layers.0.mixer.up_proj.weight";

TEST_CASE("Mamba's tensors are transformed, the rest is copied") {
    TestCheckpoint checkpoint = golden_checkpoint("dense");
    const std::string mixer = "backbone.layers.0.mixer.";
    Bound bound(checkpoint);
    std::vector<float> a = floats(checkpoint.tensor(mixer + "A_log"));
    for (float& value : a) value = -std::exp(value);
    CHECK(bound.values("blk.0.ssm_a") == a);
    for (const auto& [gguf, hf] : {std::pair("ssm_d", "D"),
                                   {"ssm_dt.bias", "dt_bias"},
                                   {"ssm_conv1d.weight", "conv1d.weight"},
                                   {"ssm_conv1d.bias", "conv1d.bias"},
                                   {"ssm_norm.weight", "norm.weight"},
                                   {"ssm_in.weight", "in_proj.weight"}}) {
        CAPTURE(gguf);
        CHECK(bound.values(std::string("blk.0.") + gguf) == floats(checkpoint.tensor(mixer + hf)));
    }
}

TEST_CASE("16-bit and FP8 weights become the numbers they stand for") {
    TestCheckpoint checkpoint = mlp_checkpoint(4);
    TestTensor& up = checkpoint.tensor(kUp);
    up.dtype = "BF16";
    up.bytes = raw_bytes(std::vector<uint16_t>(128, 0x3FC0));  // 1.5
    CHECK(Bound(checkpoint).values("blk.0.ffn_up.weight") == std::vector<float>(128, 1.5f));
    up.dtype = "F16";
    up.bytes = raw_bytes(std::vector<uint16_t>(128, 0xC100));  // -2.5
    CHECK(Bound(checkpoint).values("blk.0.ffn_up.weight") == std::vector<float>(128, -2.5f));
    up.dtype = "F8_E4M3";
    up.bytes = std::string(128, '\x3C');  // 1.5
    checkpoint.tensors.push_back(
        {std::string(kUp) + "_scale", "F32", {}, raw_bytes<float>({0.25f})});
    CHECK(Bound(checkpoint).values("blk.0.ffn_up.weight") == std::vector<float>(128, 0.375f));
    checkpoint.tensors.back().shape = {1};
    CHECK(Bound(checkpoint).values("blk.0.ffn_up.weight") == std::vector<float>(128, 0.375f));
}

TEST_CASE("FP8 without one finite scale, and scales without FP8, are refused") {
    TestCheckpoint checkpoint = mlp_checkpoint(4);
    const auto message = [&] {
        return error_message([&] { Bound(checkpoint).source("blk.0.ffn_up.weight"); });
    };
    const std::string scale = std::string(kUp) + "_scale";
    checkpoint.tensors.push_back({scale, "F32", {1}, raw_bytes<float>({1.0f})});
    check_contains(message(), "has dtype F32 and yet there is a " + scale);
    checkpoint.tensor(kUp).dtype = "F8_E4M3";
    checkpoint.tensor(kUp).bytes = std::string(128, '\x3C');
    checkpoint.tensor(scale).bytes = raw_bytes<float>({std::numeric_limits<float>::infinity()});
    check_contains(message(), scale + " is inf");
    checkpoint.tensor(scale).shape = {2};
    checkpoint.tensor(scale).bytes = raw_bytes<float>({1.0f, 1.0f});
    check_contains(message(), "has shape [2], which fits weights of [32, 4] neither as one scale");
    checkpoint.remove(scale);
    check_contains(message(), "has dtype F8_E4M3 but there is no " + scale);
}

TEST_CASE("stacked and single experts give the same tensor, and reads may cross experts") {
    TestCheckpoint single = golden_checkpoint("moe");
    TestCheckpoint stacked = single;
    const std::string base = "backbone.layers.1.mixer.experts.";
    for (const std::string name : {"up_proj", "down_proj"}) {
        TestTensor all = single.tensor(base + "0." + name + ".weight");
        all.name = base + name;
        all.shape.insert(all.shape.begin(), 8);
        all.bytes.clear();
        for (int expert = 0; expert < 8; ++expert) {
            const std::string one = base + std::to_string(expert) + "." + name + ".weight";
            all.bytes += single.tensor(one).bytes;
            stacked.remove(one);
        }
        stacked.tensors.push_back(all);
    }
    Bound a(single);
    Bound b(stacked);
    CHECK(a.values("blk.1.ffn_up_exps.weight") == b.values("blk.1.ffn_up_exps.weight"));
    const std::vector<float> whole = a.values("blk.1.ffn_down_exps.weight");
    CHECK(whole == b.values("blk.1.ffn_down_exps.weight"));
    // 32 * 32 elements per expert: this range starts in expert 0 and ends in expert 3.
    std::vector<float> part(2500);
    a.source("blk.1.ffn_down_exps.weight")->read(1000, 2500, part.data());
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + 1000));
}

TEST_CASE("tensor names may start with model., language_model. and use the older embedding name") {
    const TestCheckpoint original = mlp_checkpoint(32);
    for (const std::string prefix :
         {"model.", "language_model.backbone.", "language_model.model."}) {
        TestCheckpoint renamed = original;
        for (TestTensor& tensor : renamed.tensors) {
            const bool is_head = tensor.name == "lm_head.weight";
            if (!is_head) tensor.name.replace(0, std::strlen("backbone."), prefix);
            if (is_head && prefix.starts_with("language_model.")) {
                tensor.name = "language_model.lm_head.weight";
            }
        }
        CAPTURE(prefix);
        CHECK(Bound(renamed).unused().empty());
        renamed.tensor(prefix + "embeddings.weight").name = prefix + "embedding.weight";
        CHECK(Bound(renamed).unused().empty());
    }
}

TEST_CASE("missing tensors and wrong shapes are named with both shapes") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    checkpoint.tensor(kUp).shape = {16, 64};
    check_contains(error_message([&] { Bound(checkpoint).unused(); }),
                   std::string("CHECKPOINT: tensor ") + kUp +
                       " has shape [16, 64], but config.json asks for [32, 32]");
    checkpoint.tensor(kUp).dtype = "U8";
    checkpoint.tensor(kUp).bytes.resize(1024);
    check_contains(error_message([&] { Bound(checkpoint).unused(); }),
                   "has dtype U8 but there is no");
    checkpoint.remove(kUp);
    check_contains(error_message([&] { Bound(checkpoint).unused(); }),
                   std::string("CHECKPOINT: tensor ") + kUp + " is missing");
    checkpoint.remove("backbone.embeddings.weight");
    check_contains(error_message([&] { Bound(checkpoint).unused(); }),
                   "tensor backbone.embeddings.weight is missing");
}

TEST_CASE("weights that are not finite are named with their place") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    std::vector<float> values = floats(checkpoint.tensor(kUp));
    values[700] = std::numeric_limits<float>::quiet_NaN();
    checkpoint.tensor(kUp).bytes = raw_bytes(values);
    check_contains(error_message([&] { Bound(checkpoint).values("blk.0.ffn_up.weight"); }),
                   std::string(kUp) + ": element 700 is nan");
    checkpoint = golden_checkpoint("dense");
    const std::string a_log = "backbone.layers.0.mixer.A_log";
    values = floats(checkpoint.tensor(a_log));
    values[3] = 100.0f;  // finite, but its exponential is not
    checkpoint.tensor(a_log).bytes = raw_bytes(values);
    check_contains(error_message([&] { Bound(checkpoint).values("blk.0.ssm_a"); }),
                   a_log + ": element 3 is -inf");
}

TEST_CASE("tensors nobody needs are reported, except those known to be dispensable") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    for (const char* name :
         {"backbone.rotary_emb.inv_freq", "backbone.layers.0.mixer.up_proj.input_scale",
          "backbone.layers.0.mixer.k_proj.k_scale", "backbone.layers.0.mixer.v_proj.v_scale"}) {
        checkpoint.tensors.push_back(f32_tensor(name, {1}, 1));
    }
    CHECK(Bound(checkpoint).unused().empty());
    checkpoint.tensors.push_back(f32_tensor("vision.patch.bias", {1}, 1));
    CHECK(Bound(checkpoint).unused() == std::vector<std::string>{"vision.patch.bias"});
    // A head that the embedding table stands in for is not dropped in silence either.
    checkpoint.field("tie_word_embeddings") = Json(true);
    CHECK(Bound(checkpoint).unused() ==
          std::vector<std::string>{"lm_head.weight", "vision.patch.bias"});
    checkpoint.tensors.push_back(f32_tensor("backbone.layers.0.mixer.up_proj.bias", {1}, 1));
    check_contains(error_message([&] { Bound(checkpoint).unused(); }), "up_proj.bias: a bias here");
}

}  // namespace
}  // namespace nemo
