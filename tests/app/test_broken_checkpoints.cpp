// What nemo-convert says of a checkpoint that is not whole, and that it leaves everything as it
// was.
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <functional>

namespace nemo {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kUp = "backbone.layers.0.mixer.up_proj.weight";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";   // up to kUp
constexpr const char* kSecond = "model-00002-of-00002.safetensors";  // from down_proj on

void replace_in(const std::filesystem::path& path, const std::string& from, const std::string& to) {
    std::string text = read_file(path);
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    write_file(path, text.replace(at, from.size(), to));
}

// In the first tensor of the shard.
void write_nan(const std::filesystem::path& shard, std::streamoff element) {
    std::fstream file(shard, std::ios::binary | std::ios::in | std::ios::out);
    uint64_t n_header_bytes = 0;
    file.read(reinterpret_cast<char*>(&n_header_bytes), sizeof n_header_bytes);
    file.seekp(static_cast<std::streamoff>(8 + n_header_bytes) + 2 * element);
    const uint16_t nan = 0x7fc0;
    file.write(reinterpret_cast<const char*>(&nan), sizeof nan);
}

struct Damage {
    std::string what;
    std::function<void(const std::filesystem::path& folder)> make;
    std::vector<std::string> message;  // has these parts
};

const std::vector<Damage>& damages() {
    using Path = std::filesystem::path;
    static const std::vector<Damage> all = {
        {"a truncated shard",
         [](const Path& in) {
             std::filesystem::resize_file(in / kSecond,
                                          std::filesystem::file_size(in / kSecond) - 1000);
         },
         {kSecond, "of the data, but the file has "}},
        {"an index that names a shard that is not there",
         [](const Path& in) { std::filesystem::remove(in / kSecond); },
         {kIndex, "the shard \"model-00002-of-00002.safetensors\" is missing"}},
        {"an index that has a tensor in another shard",
         [](const Path& in) {
             replace_in(in / kIndex, std::string(kUp) + "\":\"" + kFirst,
                        std::string(kUp) + "\":\"" + kSecond);
         },
         {kIndex, kUp, "should be in ", kSecond, "but is not"}},
        {"an index that is cut off",
         [](const Path& in) { std::filesystem::resize_file(in / kIndex, 100); },
         {kIndex, "JSON"}},
        {"a tensor that no shard has",
         [](const Path& in) {
             replace_in(in / "config.json", R"("-", "num_hidden_layers": 1)",
                        R"("--", "num_hidden_layers": 2)");
         },
         {"backbone.layers.1.", "is missing"}},
        {"a weight that is not a number",
         [](const Path& in) { write_nan(in / kSecond, 7'000'000); },
         {"backbone.layers.0.mixer.down_proj.weight", "element 7000000 is nan"}},
        {"no tokenizer",
         [](const Path& in) { std::filesystem::remove(in / "tokenizer.json"); },
         {"in: ", "tokenizer.json"}},
        {"no config.json",
         [](const Path& in) { std::filesystem::remove(in / "config.json"); },
         {"config.json", "cannot open"}},
    };
    return all;
}

TEST_CASE("nemo-convert names what is wrong with a checkpoint, and changes nothing") {
    const TempFolder folder;
    REQUIRE(run_process({program("tests/make_checkpoint"), "tiny-mlp", (folder / "whole").string(),
                         "--shard-bytes", "24000000"})
                .status == 0);
    std::filesystem::create_directory(folder / "out");
    const std::string out = (folder / "out/m.gguf").string();
    write_file(out, "old");
    for (const Damage& damage : damages()) {
        CAPTURE(damage.what);
        std::filesystem::remove_all(folder / "in");
        std::filesystem::copy(folder / "whole", folder / "in");
        damage.make(folder / "in");
        const ProcessResult result =
            run_process({program("nemo-convert"), (folder / "in").string(), out, "--force"});
        CAPTURE(result.err);
        CHECK(result.status == 3);
        for (const std::string& part : damage.message) CHECK(contains(result.err, part));
        CHECK(read_file(out) == "old");
        CHECK(names_in(folder / "out") == std::vector<std::string>{"m.gguf"});
    }
    CHECK(run_process({program("nemo-convert"), (folder / "whole").string(), out, "--force"})
              .status == 0);
}

}  // namespace
}  // namespace nemo
