#include "convert/stored_tensors.h"

#include "quant/codec.h"
#include "stored_fixture.h"

#include <cmath>

namespace nemo {
namespace {

// ---- The formats, written down a second time ----

float e4m3(int bits) {
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    return static_cast<float>(bits < 128 ? magnitude : -magnitude);
}

float e2m1(int code) {
    const int exponent = code >> 1 & 3, fraction = code & 1;
    const double magnitude =
        exponent == 0 ? 0.5 * fraction : std::ldexp(2 + fraction, exponent - 2);
    return static_cast<float>(code < 8 ? magnitude : -magnitude);
}

float e8m0(int bits) {
    return std::ldexp(1.0f, bits - 127);
}

float bf16_at(int64_t i) {
    return static_cast<float>(
        std::ldexp(128.0 + static_cast<double>(i % 128), -8 + static_cast<int>(i / 128)));
}

// codes[i] * scale(row over all matrices, column).
template <class Scale>
std::vector<float> scaled(const TestTensor& weight, const Scale& scale) {
    std::vector<float> values;
    const int64_t n_columns = weight.shape.back();
    for (int64_t i = 0; i < count(weight.shape); ++i)
        values.push_back(e4m3(byte_of(weight, i)) * scale(i / n_columns, i % n_columns));
    return values;
}

TEST_CASE("FP8 with one scale per row") {
    const TestTensor weight = fp8({5, 7});
    const std::vector<float> expected =
        scaled(weight, [](int64_t row, int64_t) { return bf16_at(row); });
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{5}, {5, 1}}) {
        CHECK(Stored({weight, bf16("x.weight_scale", shape)}).values({5, 7}) == expected);
        CHECK(Stored({weight, bf16("x.weight_scale_inv", shape)}).values({5, 7}) == expected);
    }
}

TEST_CASE("FP8 with one scale per tile") {
    const TestTensor weight = fp8({5, 7});
    const std::vector<float> expected = scaled(
        weight, [](int64_t row, int64_t column) { return bf16_at(row / 2 * 3 + column / 3); });
    const std::string tile = R"({"quant_method": "fp8", "weight_block_size": [2, 3]})";
    CHECK(Stored({weight, bf16("x.weight_scale_inv", {3, 3})}, tile).values({5, 7}) == expected);
    CHECK(Stored({weight, bf16("x.weight_scale", {3, 1, 3, 1})}, tile).values({5, 7}) == expected);
    const std::string groups = R"({"quant_method": "compressed-tensors", "format":
        "float-quantized", "config_groups": {"group_0": {"weights": {"num_bits": 8, "type":
        "float", "strategy": "block", "block_structure": [2, 3]}}}})";
    CHECK(Stored({weight, bf16("x.weight_scale", {3, 3})}, groups).values({5, 7}) == expected);

    const std::string group = R"({"quant_method": "compressed-tensors", "config_groups": {"group_0":
        {"weights": {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 3}}}})";
    CHECK(
        Stored({weight, bf16("x.weight_scale", {5, 3})}, group).values({5, 7}) ==
        scaled(weight, [](int64_t row, int64_t column) { return bf16_at(row * 3 + column / 3); }));

    const TestTensor large = fp8({130, 257});
    CHECK(Stored({large, bf16("x.weight_scale_inv", {2, 3})}).values({130, 257}) ==
          scaled(large, [](int64_t row, int64_t column) {
              return bf16_at(row / 128 * 3 + column / 128);
          }));
}

TEST_CASE("FP8 experts in one tensor, with scales of their own or shared") {
    const std::vector<int64_t> shape = {3, 4, 5};
    const TestTensor weight = fp8(shape);
    using Scale = float (*)(int64_t, int64_t);
    const auto check = [&](const std::vector<int64_t>& scale_shape, Scale scale) {
        CAPTURE(scale_shape.size());
        CHECK(Stored({weight, bf16("x.weight_scale", scale_shape)},
                     R"({"quant_method": "fp8", "weight_block_size": [3, 4]})")
                  .values(shape) == scaled(weight, scale));
    };
    for (const std::vector<int64_t>& per_expert : {std::vector<int64_t>{3}, {3, 1}, {3, 1, 1}})
        check(per_expert, [](int64_t row, int64_t) { return bf16_at(row / 4); });
    for (const std::vector<int64_t>& per_row : {std::vector<int64_t>{3, 4}, {3, 4, 1}})
        check(per_row, [](int64_t row, int64_t) { return bf16_at(row); });
    for (const std::vector<int64_t>& one : {std::vector<int64_t>{}, {1}, {1, 1, 1}})
        check(one, [](int64_t, int64_t) { return 0.5f; });
    for (const std::vector<int64_t>& tiles : {std::vector<int64_t>{3, 2, 2}, {3, 2, 1, 2, 1}})
        check(tiles, [](int64_t row, int64_t column) {
            return bf16_at(row / 4 * 4 + row % 4 / 3 * 2 + column / 4);
        });
}

TEST_CASE("FP8 with powers of two per 32, and E5M2") {
    TestTensor weight = fp8({2, 40});
    for (const char* type : {"U8", "F8_E8M0"}) {
        const TestTensor scale = {"x.weight_scale", type, {2, 2}, "\x7d\x7e\x7f\x81"};
        CHECK(Stored({weight, scale}).values({2, 40}) ==
              scaled(weight, [&](int64_t row, int64_t column) {
                  return e8m0(byte_of(scale, row * 2 + column / 32));
              }));
    }
    weight = {kName, "F8_E5M2", {1, 4}, std::string("\x3c\xc2\x01\x7b", 4)};
    CHECK(Stored({weight, bf16("x.weight_scale", {})}).values({1, 4}) ==
          std::vector<float>{0.5f, -1.5f, 0x1p-17f, 28672.0f});
}

// ---- 4-bit floats ----

struct Packed {
    TestTensor weight;
    TestTensor scale;
    std::vector<float> values;  // of code times scale
};

Packed nvfp4(std::vector<int64_t> shape) {
    Packed packed;
    const int64_t n = count(shape);
    std::vector<int64_t> pairs = shape, tiles = shape;
    pairs.back() /= 2;
    tiles.back() /= 16;
    packed.weight = {kName, "U8", pairs, test_bytes(n / 2, 2, 0, 256)};
    packed.scale = {"x.weight_scale", "F8_E4M3", tiles, test_bytes(n / 16, 3, 0, 127)};
    for (int64_t i = 0; i < n; ++i)
        packed.values.push_back(e2m1(byte_of(packed.weight, i / 2) >> i % 2 * 4 & 15) *
                                e4m3(byte_of(packed.scale, i / 16)));
    return packed;
}

Packed mxfp4(std::vector<int64_t> shape) {
    Packed packed;
    const int64_t n = count(shape);
    std::vector<int64_t> pairs = shape, tiles = shape;
    pairs.back() /= 2;
    tiles.back() /= 32;
    packed.weight = {kName, "U8", pairs, test_bytes(n / 2, 4, 0, 256)};
    packed.scale = {"x.weight_scale", "U8", tiles, test_bytes(n / 32, 5, 0, 253)};
    for (int64_t i = 0; i < n; ++i)
        packed.values.push_back(e2m1(byte_of(packed.weight, i / 2) >> i % 2 * 4 & 15) *
                                e8m0(byte_of(packed.scale, i / 32)));
    return packed;
}

std::vector<float> times(std::vector<float> values, const std::vector<float>& factors) {
    const size_t n_each = values.size() / factors.size();
    for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i / n_each];
    return values;
}

// Through the blocks of the file, in two calls.
std::vector<float> repacked(const StoredTensor& tensor, DType type) {
    REQUIRE(tensor.block_type() == type);
    const DTypeInfo& info = dtype_info(type);
    const int64_t n_rows = tensor.n_elements / tensor.n_columns;
    const int64_t row_bytes = tensor.n_columns / info.block_size * info.block_bytes;
    std::vector<std::byte> blocks(static_cast<size_t>(n_rows * row_bytes));
    tensor.repack(0, 1, blocks.data(), "DIR", {});
    const MappedRange rest = {
        tensor.weight.file, tensor.weight_bytes(tensor.n_columns, (n_rows - 1) * tensor.n_columns)};
    LoadedBytes loaded;
    loaded.load({&rest, 1});
    tensor.repack(1, n_rows - 1, blocks.data() + row_bytes, "DIR", loaded);
    std::vector<float> values(static_cast<size_t>(tensor.n_elements));
    decode_row(type, blocks.data(), values.data(), tensor.n_elements);
    return values;
}

TEST_CASE("NVFP4 of ModelOpt and of compressed-tensors, read and repacked without loss") {
    Packed packed = nvfp4({3, 128});
    const TestTensor factor = f32("x.weight_scale_2", {}, {0.37f});
    Stored modelopt({packed.weight, packed.scale, factor});
    CHECK(modelopt.values({3, 128}) == times(packed.values, {0.37f}));
    const StoredTensor tensor = modelopt.find({3, 128});
    CHECK(tensor.type_name() == "NVFP4");
    CHECK(tensor.factors == std::vector<float>{0.37f});
    CHECK(repacked(tensor, DType::nvfp4) == packed.values);

    packed.weight.name = "x.weight_packed";
    Stored compressed({packed.weight, packed.scale, f32("x.weight_global_scale", {1}, {3.0f})});
    CHECK(compressed.values({3, 128}) == times(packed.values, {1.0f / 3.0f}));
    CHECK(repacked(compressed.find({3, 128}), DType::nvfp4) == packed.values);
    CHECK(compressed.find({3, 128}).factors == std::vector<float>{1.0f / 3.0f});
}

TEST_CASE("NVFP4: rows of 16, negative scales, experts in one tensor") {
    Packed packed = nvfp4({2, 48});
    const TestTensor factor = f32("x.weight_scale_2", {1}, {2.0f});
    Stored narrow({packed.weight, packed.scale, factor});
    CHECK(narrow.values({2, 48}) == times(packed.values, {2.0f}));
    CHECK_FALSE(narrow.find({2, 48}).block_type().has_value());

    packed = nvfp4({2, 64});
    packed.scale.bytes[1] = static_cast<char>(packed.scale.bytes[1] ^ 0x80);
    for (size_t i = 16; i < 32; ++i) packed.values[i] = -packed.values[i];
    Stored negative({packed.weight, packed.scale, factor});
    CHECK(negative.values({2, 64}) == times(packed.values, {2.0f}));
    CHECK(repacked(negative.find({2, 64}), DType::nvfp4) == packed.values);

    packed = nvfp4({3, 2, 64});
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{3}, {3, 1}, {3, 1, 1}}) {
        Stored stacked(
            {packed.weight, packed.scale, f32("x.weight_scale_2", shape, {0.1f, 0.2f, 0.3f})});
        CHECK(stacked.values({3, 2, 64}) == times(packed.values, {0.1f, 0.2f, 0.3f}));
        CHECK(repacked(stacked.find({3, 2, 64}), DType::nvfp4) == packed.values);
    }
    Stored shared({packed.weight, packed.scale, factor});
    CHECK(shared.find({3, 2, 64}).factors == std::vector<float>(3, 2.0f));
    CHECK(shared.values({3, 2, 64}) == times(packed.values, {2.0f}));
}

TEST_CASE("scales of stacked experts may be named as if the weight were called weight") {
    Packed packed = nvfp4({2, 2, 64});
    for (const std::string separator : {"_", "."}) {
        packed.weight.name = "up_proj";
        packed.scale.name = "up_proj" + separator + "weight_scale";
        Stored stored({packed.weight, packed.scale,
                       f32("up_proj" + separator + "weight_scale_2", {2}, {1.0f, 2.0f})});
        CHECK(stored.find({2, 2, 64}, "up_proj").factors == std::vector<float>{1.0f, 2.0f});
    }
}

TEST_CASE("MXFP4 in its three spellings, read and repacked without loss") {
    Packed packed = mxfp4({3, 2, 96});
    const auto check = [&] {
        CAPTURE(packed.weight.name);
        Stored stored({packed.weight, packed.scale});
        CHECK(stored.values({3, 2, 96}) == packed.values);
        const StoredTensor tensor = stored.find({3, 2, 96});
        CHECK(tensor.type_name() == "MXFP4");
        CHECK(tensor.factors.empty());
        CHECK(repacked(tensor, DType::mxfp4) == packed.values);
    };
    check();
    packed.weight.name = "x.weight_packed";
    packed.scale.dtype = "F8_E8M0";
    check();
    packed.weight.name = "x.weight_blocks";
    packed.weight.shape = {3, 2, 3, 16};
    packed.scale.name = "x.weight_scales";
    check();
}

}  // namespace
}  // namespace nemo
