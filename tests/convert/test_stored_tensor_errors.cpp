// What is missing, left over or contradictory about a quantized tensor is named.

#include "stored_fixture.h"

#include <limits>

namespace nemo {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const TestTensor kPairs = {kName, "U8", {2, 32}, test_bytes(64, 1, 0, 256)};
const TestTensor kNvfp4Scale = {"x.weight_scale", "F8_E4M3", {2, 4}, std::string(8, '\x38')};
const TestTensor kMxfp4Scale = {"x.weight_scale", "U8", {2, 2}, std::string(4, '\x7f')};
const TestTensor kFactor = f32("x.weight_scale_2", {}, {0.5f});
const std::vector<int64_t> kShape = {2, 64};

std::string message(const std::vector<TestTensor>& tensors, const std::vector<int64_t>& shape,
                    const std::string& quantization = "") {
    return Stored(tensors, quantization).message(shape);
}

TestTensor with_shape(TestTensor tensor, std::vector<int64_t> shape) {
    tensor.shape = std::move(shape);
    tensor.bytes.resize(static_cast<size_t>(count(tensor.shape)));
    return tensor;
}

TEST_CASE("scales that are missing or left over") {
    CHECK(message({}, kShape) == "DIR: tensor x.weight is missing");
    CHECK(message({fp8(kShape)}, kShape) ==
          "DIR: tensor x.weight has dtype F8_E4M3 but there is no x.weight_scale");
    CHECK(message({kPairs}, kShape) ==
          "DIR: tensor x.weight has dtype U8 but there is no x.weight_scale");
    CHECK(message({kPairs, kNvfp4Scale}, kShape) ==
          "DIR: tensor x.weight has dtype U8 but there is no x.weight_scale_2");
    TestTensor packed = kPairs;
    packed.name = "x.weight_packed";
    CHECK(message({packed, kNvfp4Scale}, kShape) ==
          "DIR: tensor x.weight_packed has dtype U8 but there is no x.weight_scale_2");
    TestTensor blocks = with_shape(kPairs, {2, 2, 16});
    blocks.name = "x.weight_blocks";
    CHECK(message({blocks}, kShape) ==
          "DIR: tensor x.weight_blocks has dtype U8 but there is no x.weight_scales");

    const auto left = [](const std::string& type, const std::string& name) {
        return "DIR: tensor x.weight has dtype " + type + " and yet there is a " + name;
    };
    CHECK(message({bf16(kName, {2}), bf16("x.weight_scale", {})}, {2}) ==
          left("BF16", "x.weight_scale"));
    CHECK(message({kPairs, kMxfp4Scale, kFactor}, kShape) == left("U8", "x.weight_scale_2"));
    CHECK(message({kPairs, kNvfp4Scale, kFactor, packed}, kShape) == left("U8", packed.name));
    CHECK(message({fp8(kShape), bf16("x.weight_scale", {}), bf16("x.weight_scale_inv", {})},
                  kShape) == left("F8_E4M3", "x.weight_scale"));
    CHECK(message({fp8(kShape), bf16("x.weight_scale", {}), bf16("x.weight_zero_point", {})},
                  kShape) == left("F8_E4M3", "x.weight_zero_point"));
}

TEST_CASE("shapes that do not fit") {
    check_contains(message({fp8({2, 32}), bf16("x.weight_scale", {})}, kShape),
                   "x.weight has shape [2, 32], but config.json asks for [2, 64]");
    check_contains(message({fp8(kShape), bf16("x.weight_scale", {3})}, kShape),
                   "x.weight_scale has shape [3], which fits weights of [2, 64] neither as one "
                   "scale, nor as one per row, nor with tiles of 128x128, the usual size");
    check_contains(message({fp8({3, 2, 64}), bf16("x.weight_scale", {2})}, {3, 2, 64}),
                   "x.weight_scale has shape [2], which fits");
    // Two tiles of 64, where the configuration speaks of tiles of 32.
    check_contains(message({fp8({2, 128}), bf16("x.weight_scale_inv", {1, 2})}, {2, 128},
                           R"({"quant_method": "fp8", "weight_block_size": [32, 32]})"),
                   "nor with tiles of 32x32, which ");
    check_contains(message({fp8({2, 128}), bf16("x.weight_scale_inv", {1, 2})}, {2, 128},
                           R"({"quant_method": "fp8", "weight_block_size": [32, 32]})"),
                   "config.json declares");
    // With tiles declared, one scale under the tiles' name is a contradiction.
    check_contains(message({fp8({64, 64}), bf16("x.weight_scale_inv", {})}, {64, 64},
                           R"({"quant_method": "fp8", "weight_block_size": [32, 32]})"),
                   "x.weight_scale_inv has shape []");

    check_contains(message({with_shape(kPairs, {2, 31}), kNvfp4Scale, kFactor}, kShape),
                   "x.weight has shape [2, 31], but [2, 32] is expected for weights of [2, 64]");
    check_contains(message({kPairs, with_shape(kNvfp4Scale, {2, 2}), kFactor}, kShape),
                   "x.weight_scale has shape [2, 2], but [2, 4] is expected");
    check_contains(message({kPairs, with_shape(kMxfp4Scale, {2, 4})}, kShape),
                   "x.weight_scale has shape [2, 4], but [2, 2] is expected");
    check_contains(message({kPairs, kNvfp4Scale, kFactor}, {2, 60}),
                   "x.weight is NVFP4, but its rows of 60 are no multiple of 16");
    check_contains(message({kPairs, kMxfp4Scale}, {2, 48}),
                   "x.weight is MXFP4, but its rows of 48 are no multiple of 32");
    check_contains(
        message({kPairs, kNvfp4Scale, f32("x.weight_scale_2", {2}, {1.0f, 1.0f})}, kShape),
        "x.weight_scale_2 has dtype F32 and shape [2]; one F32 factor per matrix");
}

TEST_CASE("dtypes that cannot be read") {
    const TestTensor int4 = {"x.weight_packed", "I32", {2, 8}, std::string(64, '\0')};
    check_contains(message({int4, bf16("x.weight_scale", {2})}, kShape),
                   "x.weight_packed has dtype I32; packed weights are read as U8");
    TestTensor weight = fp8(kShape);
    weight.dtype = "I8";
    check_contains(message({weight}, kShape), "x.weight has dtype I8; F32, F16, BF16, FP8");
    TestTensor scale = kMxfp4Scale;
    scale.dtype = "I8";
    check_contains(message({kPairs, scale}, kShape), "x.weight_scale has dtype I8; the scales of");
    check_contains(message({fp8(kShape), scale}, kShape),
                   "x.weight_scale has dtype I8; FP8 scales are");
}

TEST_CASE("scales and factors that are not finite") {
    check_contains(message({fp8(kShape), f32("x.weight_scale", {2}, {1.0f, kNan})}, kShape),
                   "DIR: tensor x.weight_scale: element 1 is nan");
    check_contains(message({kPairs, kNvfp4Scale, f32("x.weight_scale_2", {}, {kNan})}, kShape),
                   "DIR: tensor x.weight_scale_2 is nan");
    TestTensor packed = kPairs;
    packed.name = "x.weight_packed";
    check_contains(message({packed, kNvfp4Scale, f32("x.weight_global_scale", {}, {0.0f})}, kShape),
                   "DIR: tensor x.weight_global_scale is 0, whose reciprocal is the factor");

    std::vector<std::byte> blocks(72);
    const auto repack = [&](const std::vector<TestTensor>& tensors) {
        Stored stored(tensors);
        return error_message([&] { stored.find(kShape).repack(0, 2, blocks.data(), "DIR", {}); });
    };
    TestTensor scale = kNvfp4Scale;
    for (const char nan : {'\x7f', '\xff'}) {
        scale.bytes[5] = nan;
        check_contains(repack({kPairs, scale, kFactor}),
                       "DIR: tensor x.weight_scale: element 5 is ");
    }
    scale = kMxfp4Scale;
    scale.bytes[3] = '\xff';
    check_contains(repack({kPairs, scale}), "DIR: tensor x.weight_scale: element 3 is nan");
    scale.bytes[3] = '\xfe';
    check_contains(repack({kPairs, scale}), "of element 96 is out of range");
}

TEST_CASE("what the checkpoint declares must agree with what it stores") {
    const std::vector<TestTensor> stored = {kPairs, kNvfp4Scale, kFactor};
    for (const char* fits :
         {R"({"quant_method": "modelopt", "quant_algo": "NVFP4"})",
          R"({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "ignore": ["x"]})",
          R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
              "quantized_layers": {"x": {"quant_algo": "NVFP4"}, "y": {"quant_algo": "FP8"}}})",
          R"({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"})",
          R"({"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups":
              {"a": {"weights": {"num_bits": 8, "type": "float"}},
               "b": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}})",
          R"({"quant_method": "modelopt", "kv_cache_scheme": {"num_bits": 8}})"})
        CHECK(Stored(stored, fits).find(kShape).form == StoredForm::nvfp4);
    const auto contradiction = [&](const std::string& declared) {
        return message(stored, kShape, declared);
    };
    std::string text = contradiction(R"({"quant_method": "modelopt", "quant_algo": "FP8"})");
    check_contains(text, "DIR: tensor x.weight is NVFP4, but ");
    check_contains(text, "config.json declares only FP8");
    text = contradiction(R"({"quant_algo": "MIXED_PRECISION", "quantized_layers":
        {"x": {"quant_algo": "FP8"}, "y": {"quant_algo": "NVFP4"}}})");
    check_contains(text, "tensor x.weight is NVFP4, but ");
    check_contains(text, "config.json declares it as FP8");
    check_contains(contradiction(R"({"quant_method": "gptq"})"),
                   "config.json: quant_method gptq is not supported");
    check_contains(contradiction(R"({"quant_algo": "NVFP4_AWQ"})"),
                   "quant_algo NVFP4_AWQ is not supported");
    check_contains(contradiction(R"({"quant_method": "compressed-tensors", "format":
                                     "pack-quantized"})"),
                   "format pack-quantized is not supported");
    check_contains(contradiction(R"({"weight_block_size": [128]})"),
                   "weight_block_size is [128], expected two sizes");
    check_contains(contradiction(R"({"quantized_layers": 3})"),
                   "quantized_layers is 3, expected an object");
}

TEST_CASE("hf_quant_config.json counts too") {
    TempFolder folder;
    write_file(folder / "config.json", R"({"llm_config": {}})");
    write_file(folder / "hf_quant_config.json",
               R"({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}})");
    const QuantizationConfig config = read_quantization_config(folder / ".");
    config.check("a.weight", StoredForm::fp8, "DIR");
    config.check("a.weight", StoredForm::plain, "DIR");
    check_contains(error_message([&] { config.check("a.weight", StoredForm::mxfp4, "DIR"); }),
                   "hf_quant_config.json declares only FP8");
}

}  // namespace
}  // namespace nemo
