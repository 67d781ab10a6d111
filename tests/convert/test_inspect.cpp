// What inspect prints, of ordinary and of hostile files.
#include "convert/inspect.h"

#include "checkpoint_fixture.h"
#include "core/gguf_writer.h"

namespace nemo {
namespace {

ModelFile file_with(const TempFolder& folder, const GgufMetadata& metadata) {
    GgufWriter writer(folder / "m.gguf", metadata, {{"a.weight", DType::f32, {2, 3, 1, 1}, 2}});
    const std::string bytes(24, '\0');
    writer.write(std::as_bytes(std::span(bytes)));
    writer.finish();
    return ModelFile::open(folder / "m.gguf");
}

GgufMetadata every_kind_of_value() {
    GgufMetadata metadata;
    metadata.set_u32("a.u32", 4000000000u);
    metadata.set_i32("a.i32", -5);
    metadata.set_f32("a.f32", 1e-5f);
    metadata.set_bool("a.bool", true);
    metadata.set_string("a.string", "one\ntwo");
    metadata.set_string("a.long", std::string(119, 'x') + "\xC3\xA4 and so on");
    metadata.set_i32_array("a.integers", {1, 2, 3, 4, 5, 6, 7, 8});
    metadata.set_f32_array("a.reals", {0.5f, -1.0f});
    metadata.set_string_array("a.strings", {"x", "y"});
    metadata.set("a.flags", {GgufType::boolean, true, std::vector<bool>{true, false}});
    return metadata;
}

TEST_CASE("inspect prints metadata with types, and tensors") {
    const TempFolder folder;
    const std::string text = inspect_text(file_with(folder, every_kind_of_value()));
    const auto line = [&](const std::string& key) {
        const size_t start = text.find("\n" + key + " ");
        REQUIRE(start != std::string::npos);
        return text.substr(start + 1, text.find('\n', start + 1) - start - 1);
    };
    check_contains(line("a.u32"), " u32            4000000000");
    check_contains(line("a.i32"), " -5");
    check_contains(line("a.f32"), " 1e-05");
    check_contains(line("a.bool"), " true");
    check_contains(line("a.string"), R"("one\ntwo")");
    check_contains(line("a.long"), std::string(119, 'x') + R"("... (131 bytes))");
    check_contains(line("a.integers"), "i32[8]         [1, 2, 3, 4, 5, 6, ...]");
    check_contains(line("a.reals"), "f32[2]         [0.5, -1]");
    check_contains(line("a.strings"), R"(["x", "y"])");
    check_contains(line("a.flags"), "[true, false]");
    check_contains(line("a.weight"), "F32      [2, 3]");
    check_contains(text, "11 keys, 1 tensors");
    check_contains(text, "1 tensors, 6 weights, 32.000 bits per weight: F32 1\n");
}

TEST_CASE("inspect --json says everything") {
    const TempFolder folder;
    const Json root = parse_json(inspect_json(file_with(folder, every_kind_of_value())), "json");
    const Json& metadata = *root.find("metadata");
    const auto value = [&](const char* key) { return *metadata.find(key)->find("value"); };
    CHECK(value("a.u32") == Json(int64_t{4000000000}));
    CHECK(value("a.integers").array().size() == 8);
    CHECK(value("a.flags") == Json(Json::Array{Json(true), Json(false)}));
    CHECK(value("a.long").string().size() == 131);
    CHECK(*metadata.find("a.f32")->find("type") == Json("f32"));
    CHECK(static_cast<float>(value("a.f32").number()) == 1e-5f);
    const Json& tensor = root.find("tensors")->array().at(0);
    CHECK(*tensor.find("name") == Json("a.weight"));
    CHECK(*tensor.find("dims") == Json(Json::Array{Json(2), Json(3)}));
    CHECK(*tensor.find("n_bytes") == Json(24));
    CHECK(root.find("n_bytes")->integer() ==
          static_cast<int64_t>(std::filesystem::file_size(folder / "m.gguf")));
}

TEST_CASE("hostile text in a file does not reach the terminal") {
    const TempFolder folder;
    GgufMetadata metadata;
    metadata.set_string("evil\x1b[2Jkey", "\x1b]0;title\x07 \xE2\x80\xAE \xFF\xFE \xC2\x9B");
    metadata.set_string_array("list", {"\x1b[31m"});
    metadata.set_u32("two\nlines", 1);
    const ModelFile file = file_with(folder, metadata);
    const std::string text = inspect_text(file);
    CHECK(text.find_first_of("\x1b\x07\x9b\xff\xfe") == std::string::npos);
    CHECK_FALSE(contains(text, "\xE2\x80\xAE"));
    check_contains(text, "[2Jkey");
    CHECK_FALSE(contains(text, "\nlines"));
    const std::string json = inspect_json(file);
    CHECK(json.find_first_of("\x1b\x07\xff\xfe") == std::string::npos);
    CHECK_NOTHROW(parse_json(json, "json"));
}

}  // namespace
}  // namespace nemo
