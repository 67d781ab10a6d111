// The GGUF reader against what the writer makes, and against hand-made bad files: one per rule.
#include "core/error.h"
#include "core/gguf_writer.h"
#include "core/model_file.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

using namespace nemo;

namespace {

// Builds GGUF bytes field by field, so that a test can get any of them wrong.
class Bytes {
public:
    template <class T>
    Bytes& put(T value) {
        text_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    Bytes& string(std::string_view text) {
        put(uint64_t{text.size()});
        text_ += text;
        return *this;
    }
    Bytes& raw(std::string_view text) {
        text_ += text;
        return *this;
    }
    Bytes& header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
        return raw("GGUF").put(version).put(n_tensors).put(n_keys);
    }
    Bytes& tensor(std::string_view name, std::initializer_list<int64_t> dims, uint32_t type,
                  uint64_t offset) {
        string(name).put(static_cast<uint32_t>(dims.size()));
        for (const int64_t dim : dims) put(dim);
        return put(type).put(offset);
    }
    Bytes& data(size_t n_bytes) {
        text_.resize((text_.size() + 31) / 32 * 32 + n_bytes);
        return *this;
    }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

// The message of the error that opening these bytes gives; empty if they open.
std::string error_of(const std::string& bytes) {
    const TempFolder folder;
    write_file(folder / "m.gguf", bytes);
    try {
        ModelFile::open(folder / "m.gguf");
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        return error.what();
    }
    return "";
}

void check_refused(const Bytes& bytes, const char* part) {
    const std::string message = error_of(bytes.text());
    CAPTURE(message);
    CHECK(message.find("m.gguf") != std::string::npos);
    CHECK(message.find(part) != std::string::npos);
}

GgufMetadata every_kind_of_value() {
    GgufMetadata metadata;
    metadata.set_string("general.architecture", "test");
    metadata.set_u16("a.u16", 65535);
    metadata.set_u32("a.u32", 4294967295u);
    metadata.set_i32("a.i32", -5);
    metadata.set_f32("a.f32", 0.1f);
    metadata.set_bool("a.bool", true);
    metadata.set_i32_array("a.i32s", {1, -2, 3});
    metadata.set_u32_array("a.u32s", {1, 4000000000u});
    metadata.set_f32_array("a.f32s", {1.5f, -0.25f});
    metadata.set_string_array("a.strings", {"", "x", "h\xc3\xa9"});
    metadata.set("a.u64", {GgufType::u64, false, int64_t{1} << 62});
    metadata.set("a.f64", {GgufType::f64, false, 0.1});
    return metadata;
}

void write_model(const std::filesystem::path& path) {
    GgufWriter writer(
        path, every_kind_of_value(),
        {{"one", DType::f32, {3, 1, 1, 1}, 1}, {"two", DType::q8_0, {64, 2, 1, 1}, 2}});
    const std::vector<float> one = {1, 2, 3};
    writer.write(std::as_bytes(std::span(one)));
    const std::vector<std::byte> two(4 * 34, std::byte{7});
    writer.write(std::span(two).first(50));
    writer.write(std::span(two).subspan(50));
    writer.finish();
    CHECK(std::filesystem::file_size(path) == writer.n_file_bytes());
}

}  // namespace

TEST_CASE("what the writer writes, the reader reads") {
    const TempFolder folder;
    write_model(folder / "m.gguf");
    const ModelFile file = ModelFile::open(folder / "m.gguf");
    const GgufMetadata& metadata = file.metadata();
    CHECK(metadata.get_integer("a.u16") == 65535);
    CHECK(metadata.get_integer("a.u32") == 4294967295);
    CHECK(metadata.get_integer("a.i32") == -5);
    CHECK(metadata.get_real("a.f32") == 0.1f);
    CHECK(metadata.get_real("a.f64") == 0.1);
    CHECK(metadata.get_bool("a.bool"));
    CHECK(metadata.get_integers("a.i32s") == std::vector<int64_t>{1, -2, 3});
    CHECK(metadata.get_integers("a.u32s") == std::vector<int64_t>{1, 4000000000});
    CHECK(metadata.get_reals("a.f32s") == std::vector<double>{1.5, -0.25});
    CHECK(metadata.get_strings("a.strings") == std::vector<std::string>{"", "x", "h\xc3\xa9"});
    CHECK(metadata.get_integer("a.u64") == int64_t{1} << 62);
    CHECK(metadata.entries().front().first == "general.architecture");

    REQUIRE(file.tensors().size() == 2);
    const TensorView* one = file.find("one");
    REQUIRE(one != nullptr);
    float value = 0;
    std::memcpy(&value, one->data + 8, sizeof value);
    CHECK(value == 3);
    const TensorView* two = file.find("two");
    REQUIRE(two != nullptr);
    CHECK(two->row_bytes() == 68);
    CHECK(two->n_bytes() == 136);
    CHECK(two->row(1)[67] == std::byte{7});
    CHECK(file.find("three") == nullptr);
}

TEST_CASE("a file cut at any byte is refused") {
    const TempFolder folder;
    write_model(folder / "m.gguf");
    const std::string whole = read_file(folder / "m.gguf");
    CHECK(error_of(whole).empty());
    // The last tensor's padding may be missing: nothing lies there.
    const size_t n_padding = 160 - 136;
    for (size_t n = 0; n < whole.size() - n_padding; ++n) {
        CAPTURE(n);
        CHECK_FALSE(error_of(whole.substr(0, n)).empty());
    }
}

TEST_CASE("metadata getters name the key and the types that disagree") {
    const GgufMetadata metadata = every_kind_of_value();
    CHECK(metadata.get_integer("absent", 7) == 7);
    CHECK(metadata.get_per_layer("a.u32", 2) == std::vector<int64_t>{4294967295, 4294967295});
    CHECK(metadata.get_per_layer("a.i32s", 3) == std::vector<int64_t>{1, -2, 3});
    CHECK_THROWS_WITH_AS(metadata.get_integer("absent"), "metadata: key absent is missing", Error);
    CHECK_THROWS_WITH_AS(metadata.get_integer("a.f32"),
                         "metadata: key a.f32 is of type f32, but an integer is needed", Error);
    CHECK_THROWS_WITH_AS(metadata.get_string("a.strings"),
                         "metadata: key a.strings is an array of string, but a string is needed",
                         Error);
    CHECK_THROWS_WITH_AS(metadata.get_per_layer("a.i32s", 4),
                         "metadata: key a.i32s has 3 entries, but the model has 4 layers", Error);
}

TEST_CASE("bad headers are refused") {
    check_refused(Bytes().raw("GGML").put(3u).put(uint64_t{0}).put(uint64_t{0}), "not a GGUF file");
    check_refused(Bytes().header(0, 0, 1), "version 1");
    check_refused(Bytes().header(0, 0, 4), "version 4");
    check_refused(Bytes().header(0, 0, 0x03000000), "big-endian");
    check_refused(Bytes().header(uint64_t{1} << 40, 0), "1099511627776 tensors");
    check_refused(Bytes().header(0, uint64_t{1} << 63), "9223372036854775808 keys");
    check_refused(Bytes().header(0, 1000), "1000 items");
    check_refused(Bytes().header(100, 0), "100 items");
}

TEST_CASE("bad metadata is refused") {
    const auto key = [](std::string_view name) {
        Bytes bytes;
        bytes.header(0, 1).string(name);
        return bytes;
    };
    check_refused(key("").put(4).put(1u).data(32), "is empty");
    check_refused(key("\xff").put(4).put(1u).data(32), "not UTF-8");
    check_refused(key("k").put(13).data(32), "unknown value type 13");
    check_refused(key("k").put(-1).data(32), "unknown value type -1");
    check_refused(key("k").put(10).put(~uint64_t{0}).data(32), "18446744073709551615");
    check_refused(key("k").put(8).put(uint64_t{1} << 50).data(32), "k");
    check_refused(key("k").put(9).put(9).put(uint64_t{1}).data(32), "array of arrays");
    check_refused(key("k").put(9).put(4).put(uint64_t{1} << 62).data(32), "claims");
    check_refused(key("k").put(9).put(8).put(uint64_t{1} << 61).data(32), "claims");
    Bytes twice;
    twice.header(0, 2).string("k").put(4).put(1u).string("k").put(4).put(1u);
    check_refused(twice, "key k occurs twice");
    for (const uint32_t alignment : {0u, 1u, 33u, 1u << 30}) {
        CAPTURE(alignment);
        check_refused(key("general.alignment").put(4).put(alignment).data(32), "general.alignment");
    }
}

TEST_CASE("bad tensor directories are refused") {
    const auto one = [](std::initializer_list<int64_t> dims, uint32_t type, uint64_t offset) {
        Bytes bytes;
        bytes.header(1, 0).tensor("t", dims, type, offset).data(64);
        return bytes;
    };
    CHECK(error_of(one({16}, 0, 0).text()).empty());
    check_refused(one({17}, 0, 0), "truncated");
    check_refused(one({16}, 0, 32), "offset 32, but 0 is expected");
    check_refused(one({0}, 0, 0), "at least 1");
    check_refused(one({-1, -1}, 0, 0), "at least 1");
    check_refused(one({int64_t{1} << 62, 4}, 0, 0), "too large");
    check_refused(one({int64_t{1} << 61}, 0, 0), "too large");
    check_refused(one({1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
    check_refused(one({}, 0, 0), "0 dimensions");
    check_refused(one({16}, 4, 0), "type id 4");
    check_refused(one({16}, 4000000000u, 0), "type id 4000000000");
    check_refused(one({48}, 8, 0), "multiple of 32");
    Bytes twice;
    twice.header(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).data(64);
    check_refused(twice, "tensor t occurs twice");
    Bytes long_name;
    long_name.header(1, 0).tensor(std::string(64, 'n'), {8}, 0, 0).data(64);
    check_refused(long_name, "64 bytes long");
    Bytes overlap;
    overlap.header(2, 0).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 0).data(64);
    check_refused(overlap, "tensor b has offset 0, but 32 is expected");
}

TEST_CASE("files that are no models are refused") {
    const TempFolder folder;
    CHECK_THROWS_AS(ModelFile::open(folder / "absent.gguf"), Error);
    CHECK_THROWS_AS(ModelFile::open(folder / ""), Error);
    CHECK_THROWS_AS(ModelFile::open("/dev/null"), Error);
}

TEST_CASE("split files are read as one") {
    const TempFolder folder;
    const auto write_part = [&](const char* name, uint16_t number, const char* tensor) {
        GgufMetadata metadata;
        if (number == 0) metadata.set_string("general.name", "split");
        metadata.set_u16("split.no", number);
        metadata.set_u16("split.count", 2);
        metadata.set_i32("split.tensors.count", 2);
        GgufWriter writer(folder / name, metadata, {{tensor, DType::f32, {1, 1, 1, 1}, 1}});
        const float value = number;
        writer.write(std::as_bytes(std::span(&value, 1)));
        writer.finish();
    };
    write_part("m-00001-of-00002.gguf", 0, "a");
    write_part("m-00002-of-00002.gguf", 1, "b");
    for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
        const ModelFile file = ModelFile::open(folder / name);
        CHECK(file.metadata().get_string("general.name") == "split");
        CHECK(file.tensors().size() == 2);
        CHECK(file.find("b")->data != nullptr);
    }
    SUBCASE("a part is missing") {
        std::filesystem::remove(folder / "m-00002-of-00002.gguf");
        CHECK_THROWS_AS(ModelFile::open(folder / "m-00001-of-00002.gguf"), Error);
    }
    SUBCASE("a part is in the wrong place") {
        write_part("m-00002-of-00002.gguf", 0, "b");
        CHECK_THROWS_AS(ModelFile::open(folder / "m-00001-of-00002.gguf"), Error);
    }
    SUBCASE("a renamed part says so") {
        std::filesystem::rename(folder / "m-00001-of-00002.gguf", folder / "m.gguf");
        CHECK_THROWS_AS(ModelFile::open(folder / "m.gguf"), Error);
    }
    SUBCASE("the same tensor in two parts") {
        write_part("m-00002-of-00002.gguf", 1, "a");
        CHECK_THROWS_AS(ModelFile::open(folder / "m-00001-of-00002.gguf"), Error);
    }
}

TEST_CASE("an abandoned writer leaves the old file and no other") {
    const TempFolder folder;
    write_file(folder / "m.gguf", "old");
    { const GgufWriter writer(folder / "m.gguf", every_kind_of_value(), {}); }
    CHECK(read_file(folder / "m.gguf") == "old");
    const auto entries = std::filesystem::directory_iterator(folder / "");
    CHECK(std::distance(begin(entries), end(entries)) == 1);
}
