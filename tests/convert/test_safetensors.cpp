#include "checkpoint_fixture.h"

namespace nemo {
namespace {

const std::vector<TestTensor> kTwoTensors = {
    {"a", "F32", {2, 3}, std::string(24, 'x')},
    {"b", "BF16", {5}, std::string(10, 'y')},
};

TEST_CASE("a safetensors file gives views in the order of its data") {
    TempFolder folder;
    // Not sorted by place, padded with spaces, with metadata and an empty tensor.
    const std::string header =
        R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[4,10]},)"
        R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
        R"("none":{"dtype":"I64","shape":[0,7],"data_offsets":[4,4]}}   )";
    write_file(folder / "x", with_header_length(header) + "0123456789");
    const SafetensorsFile file = SafetensorsFile::open(folder / "x");
    REQUIRE(file.tensors().size() == 3);
    CHECK(file.tensors()[0].name == "a");
    CHECK(file.tensors()[0].type == SafetensorsType::f32);
    CHECK(file.tensors()[0].n_elements() == 1);
    CHECK(file.tensors()[1].name == "none");
    CHECK(file.tensors()[1].bytes.empty());
    CHECK(file.tensors()[2].name == "b");
    CHECK(file.tensors()[2].shape == std::vector<int64_t>{3});
    CHECK(std::memcmp(file.tensors()[2].bytes.data(), "456789", 6) == 0);
}

TEST_CASE("bad safetensors headers are refused by name") {
    struct Case {
        const char* header;
        const char* message;
    };
    // Each with 8 bytes of data.
    const Case cases[] = {
        {"", "does not start with '{'"},
        {"[]", "does not start with '{'"},
        {R"( {})", "does not start with '{'"},
        {R"({)", "JSON"},
        {R"({}x)", "JSON"},
        {R"({})", "the tensors take 0 bytes, but the file has 8"},
        {R"({"a":1})", "header entry of tensor a is not an object"},
        {R"({"":{}})", "is not a tensor name"},
        {R"({"a\u001b[2J":{}})", "is not a tensor name"},
        {R"({"__metadata__":{"a":1}})", "__metadata__ must map names to strings"},
        {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "tensor a has no dtype"},
        {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "tensor a has no shape"},
        {R"({"a":{"dtype":"F32","shape":[2]}})", "tensor a has no data_offsets"},
        {R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", "unknown dtype \"F33\""},
        {R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", "unknown dtype 7"},
        {R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "shape must be a list"},
        {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "shape must be a list"},
        {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "shape must be a list"},
        {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})",
         "shape must be a list of at most 8"},
        {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
         "overflows"},
        {R"({"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,8]}})",
         "overflows"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", "is not a byte range"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "is not a byte range"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", "is not a byte range"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}})", "is not a byte range"},
        {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})",
         "ends at byte 12 of the data, but the file has 8"},
        {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "needs 12 bytes but has 8"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
         "the tensors take 4 bytes, but the file has 8"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "there is a hole"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
         R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
         "they overlap"},
        {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
         R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
         "duplicate key"},
        {R"({"a":{"dtype":"F32","shape":[[[[[2]]]]],"data_offsets":[0,8]}})", "nested deeper"},
    };
    TempFolder folder;
    for (const Case& test : cases) {
        CAPTURE(test.header);
        write_file(folder / "x", with_header_length(test.header) + "01234567");
        const std::string message = error_message([&] { SafetensorsFile::open(folder / "x"); });
        check_contains(message, (folder / "x").string());
        check_contains(message, test.message);
    }
}

TEST_CASE("header lengths that cannot be are refused") {
    TempFolder folder;
    const auto message_for = [&](uint64_t n_bytes) {
        write_file(folder / "x", raw_bytes(std::vector<uint64_t>{n_bytes}) + "{}");
        return error_message([&] { SafetensorsFile::open(folder / "x"); });
    };
    check_contains(message_for(3), "needs 3 bytes, but the file has only 2");
    check_contains(message_for(100'000'000), "needs 100000000 bytes");
    check_contains(message_for(100'000'001), "exceeds 100000000 bytes");
    check_contains(message_for(~uint64_t{0}), "exceeds 100000000 bytes");
}

TEST_CASE("a safetensors file cut anywhere, or longer than it says, is refused") {
    TempFolder folder;
    const std::string whole = safetensors_bytes(kTwoTensors);
    write_file(folder / "x", whole);
    CHECK(SafetensorsFile::open(folder / "x").tensors().size() == 2);
    for (size_t n_bytes = 0; n_bytes < whole.size(); ++n_bytes) {
        CAPTURE(n_bytes);
        write_file(folder / "x", whole.substr(0, n_bytes));
        CHECK_THROWS_AS(SafetensorsFile::open(folder / "x"), Error);
    }
    write_file(folder / "x", whole + "z");
    CHECK_THROWS_AS(SafetensorsFile::open(folder / "x"), Error);
}

TEST_CASE("single bytes changed in a header never crash the reader") {
    TempFolder folder;
    const std::string whole = safetensors_bytes(kTwoTensors);
    for (size_t i = 0; i < whole.size() - 34; ++i) {
        for (const char byte : {'9', '"', '\xff'}) {
            std::string changed = whole;
            changed[i] = byte;
            write_file(folder / "x", changed);
            try {
                SafetensorsFile::open(folder / "x");
            } catch (const Error& error) {
                CHECK(error.code() == ErrorCode::bad_file);
            }
        }
    }
}

class Shards {
public:
    Shards() {
        std::filesystem::create_directory(folder);
        write_file(folder / "m-1.safetensors", safetensors_bytes({kTwoTensors[0]}));
        write_file(folder / "m-2.safetensors", safetensors_bytes({kTwoTensors[1]}));
    }
    void write_index(const std::string& weight_map) {
        write_file(folder / "model.safetensors.index.json", R"({"weight_map":)" + weight_map + "}");
    }
    std::string message() {
        return error_message([&] { SafetensorsSet::open(folder); });
    }

private:
    TempFolder parent_;

public:
    const std::filesystem::path folder = parent_ / "in";
};

TEST_CASE("shards are read through the index") {
    Shards shards;
    shards.write_index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
    const SafetensorsSet set = SafetensorsSet::open(shards.folder);
    CHECK(set.files().size() == 2);
    REQUIRE(set.find("b") != nullptr);
    CHECK(set.find("b")->bytes.size() == 10);
    CHECK(set.find("c") == nullptr);
}

TEST_CASE("a shard index is not trusted") {
    Shards shards;
    check_contains(shards.message(), "neither model.safetensors nor");
    shards.write_index("[]");
    check_contains(shards.message(), "weight_map is missing or not an object");
    for (const char* name : {R"("../m-1.safetensors")", R"("/etc/passwd")", R"("..")", R"("")", "1",
                             R"("a\\b")", R"("m-1.safetensors\u0000")"}) {
        CAPTURE(name);
        shards.write_index(std::string(R"({"a":)") + name + "}");
        check_contains(shards.message(), "not a plain file name");
    }
    shards.write_index(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})");
    check_contains(shards.message(), "the shard \"m-3.safetensors\" is missing");
    shards.write_index(R"({"a":")" + std::string(300, 'n') + R"("})");
    check_contains(shards.message(), "nnn\" is no file: File name too long");
    shards.write_index(R"({"a":"m-1.safetensors","c":"m-2.safetensors"})");
    check_contains(shards.message(), "tensor \"c\" should be in");
    shards.write_index(R"({"a":"m-2.safetensors","b":"m-1.safetensors"})");
    check_contains(shards.message(), "tensor \"a\" should be in");
    write_file(shards.folder / "m-2.safetensors", safetensors_bytes({kTwoTensors[0]}));
    shards.write_index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
    check_contains(shards.message(), "tensor a is in");
}

}  // namespace
}  // namespace nemo
