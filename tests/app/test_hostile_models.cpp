// A damaged model file gives an error or an answer, never a crash. (A crash would end this program;
// the sanitizer presets make this test stricter.)
#include "app/engine.h"
#include "convert/convert.h"
#include "core/error.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <new>
#include <random>

using namespace nemo;

namespace {

// What a program does with a model: load everything, read a prompt, write a few tokens.
void use_model(const std::filesystem::path& path) {
    const Engine engine(path, 1);
    Session session(engine.model(), {.n_context = 64, .chunk = 8});
    GenerateOptions options;
    options.sampling.temperature = 0;
    options.max_tokens = 2;
    ChatPrompt prompt = engine.raw_prompt("Hello <|im_end|> \xf0\x9f\x99\x82");
    prompt.ids.push_back(0);
    engine.generate(session, prompt, options, [](TextPart, std::string_view) {}, {});
    if (!engine.tokenizer().data().chat_template.empty())
        engine.chat_prompt(Json::Array{Json::Object{{"role", "user"}, {"content", "Hi"}}}, {});
}

// True if the model was usable.
bool survives(const std::filesystem::path& path) {
    try {
        use_model(path);
        return true;
    } catch (const Error& error) {
        CHECK(std::string(error.what()).size() > 10);
    } catch (const std::bad_alloc&) {
        // An absurd size that the file really says, status 4.
    }
    return false;
}

std::string tiny_model(const TempFolder& folder, const char* name) {
    const auto checkpoint = std::filesystem::path(NEMO_SOURCE_DIR) / "tests/golden/models" / name;
    write_model(make_plan(checkpoint, DType::q8_0), folder / "m.gguf", 1,
                [](const ConvertProgress&) {});
    return read_file(folder / "m.gguf");
}

// The part of a file before the tensor data.
size_t header_size(const std::filesystem::path& path) {
    const std::string whole = read_file(path);
    size_t n_data = 0;
    const ModelFile file = ModelFile::open(path);
    for (const TensorView& tensor : file.tensors())
        n_data += (static_cast<size_t>(tensor.n_bytes()) + 31) / 32 * 32;
    return whole.size() - n_data;
}

}  // namespace

TEST_CASE("random damage to the header") {
    for (const char* name : {"mixed_order", "moe_latent"}) {
        const TempFolder folder;
        const std::string whole = tiny_model(folder, name);
        const size_t n_header = header_size(folder / "m.gguf");
        std::mt19937 random(7);
        int n_usable = 0;
        constexpr int kRounds = 1500;
        for (int i = 0; i < kRounds; ++i) {
            std::string damaged = whole;
            const int n_changes = 1 + static_cast<int>(random() % 4);
            for (int j = 0; j < n_changes; ++j) {
                const size_t at = random() % n_header;
                // Small numbers and extremes find more than uniform bytes do.
                const uint32_t choice = random() % 4;
                damaged[at] = static_cast<char>(choice == 0   ? 0
                                                : choice == 1 ? 0xff
                                                : choice == 2 ? damaged[at] + 1
                                                              : random() & 255);
            }
            CAPTURE(name);
            CAPTURE(i);
            write_file(folder / "m.gguf", damaged);
            n_usable += survives(folder / "m.gguf");
        }
        // Both outcomes occur, or the test shows nothing.
        CHECK(n_usable > 10);
        CHECK(n_usable < kRounds - 10);
    }
}

TEST_CASE("a model cut at any byte is refused") {
    const TempFolder folder;
    const std::string whole = tiny_model(folder, "dense");
    const size_t n_header = header_size(folder / "m.gguf");
    for (size_t n = 0; n < whole.size() - 32; n += n < n_header ? 1 : 997) {
        CAPTURE(n);
        write_file(folder / "m.gguf", whole.substr(0, n));
        CHECK_FALSE(survives(folder / "m.gguf"));
    }
}

TEST_CASE("weights that are all NaN give an error, not an answer") {
    const TempFolder folder;
    std::string whole = tiny_model(folder, "dense");
    const size_t n_header = header_size(folder / "m.gguf");
    for (size_t i = n_header; i < whole.size(); ++i) whole[i] = '\xff';
    write_file(folder / "m.gguf", whole);
    CHECK_FALSE(survives(folder / "m.gguf"));
}
