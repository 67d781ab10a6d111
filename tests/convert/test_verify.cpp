// Verification: sound files pass, each kind of damage is named.
#include "convert/verify.h"

#include "checkpoint_fixture.h"
#include "core/gguf_writer.h"
#include "core/tensor_checksums.h"

#include <limits>
#include <map>

namespace nemo {
namespace {

const ProgressCallback kSilent = [](const ConvertProgress&) {};

void convert(const std::filesystem::path& input, const std::filesystem::path& output, DType type) {
    write_model(make_plan(input, type), output, 2, kSilent);
}

VerifyReport verify(const std::filesystem::path& path,
                    const std::filesystem::path& checkpoint = {}) {
    return verify_model(ModelFile::open(path), checkpoint, 2, kSilent);
}

std::string problems(const VerifyReport& report) {
    std::string text;
    for (const std::string& problem : report.problems) text += problem + "\n";
    return text;
}

// A copy of a file with some things changed.
struct Rewrite {
    std::string drop;       // tensor left out
    std::string rename;     // tensor given the name "new.weight"
    std::string transpose;  // tensor with its first two dims swapped
    std::string drop_key;
    std::vector<std::string> checksums;  // instead of the right ones, if not empty
};

void rewrite(const std::filesystem::path& from, const std::filesystem::path& to,
             const Rewrite& how) {
    const ModelFile file = ModelFile::open(from);
    GgufMetadata metadata;
    for (const auto& [key, value] : file.metadata().entries())
        if (key != how.drop_key) metadata.set(key, value);
    std::vector<GgufTensorInfo> infos;
    std::vector<TensorView> kept;
    for (const TensorView& tensor : file.tensors()) {
        if (tensor.name == how.drop) continue;
        GgufTensorInfo info = {tensor.name, tensor.dtype, tensor.dims, 2};
        if (tensor.name == how.rename) info.name = "new.weight";
        if (tensor.name == how.transpose) std::swap(info.dims[0], info.dims[1]);
        infos.push_back(info);
        kept.push_back(tensor);
    }
    GgufWriter writer(to, metadata, infos);
    for (const TensorView& tensor : kept)
        writer.write({tensor.data, static_cast<size_t>(tensor.n_bytes())});
    writer.finish();
}

// Where a tensor's data starts in the file.
size_t offset_of(const std::filesystem::path& path, const std::string& name) {
    const ModelFile file = ModelFile::open(path);
    const TensorView* tensor = file.find(name);
    REQUIRE(tensor != nullptr);
    const std::string bytes = read_file(path);
    const std::string_view data(reinterpret_cast<const char*>(tensor->data),
                                static_cast<size_t>(tensor->n_bytes()));
    const size_t offset = bytes.find(data);
    REQUIRE(offset != std::string::npos);
    return offset;
}

TEST_CASE("every golden model in every type is sound and close to its checkpoint") {
    const std::map<DType, double> limits = {{DType::f32, 1e-7},
                                            {DType::f16, 1e-3},
                                            {DType::bf16, 4e-3},
                                            {DType::q8_0, 0.01},
                                            {DType::q4_0, 0.15}};
    for (const char* model :
         {"dense", "mixed_order", "moe", "moe_latent", "per_layer", "fp8", "one_group"}) {
        for (const auto& [type, limit] : limits) {
            CAPTURE(model);
            CAPTURE(dtype_info(type).name);
            const TempFolder folder;
            convert(kGoldenModels / model, folder / "m.gguf", type);
            const VerifyReport report = verify(folder / "m.gguf", kGoldenModels / model);
            CHECK(problems(report).empty());
            CHECK(report.notes.empty());
            REQUIRE(std::ssize(report.errors) == report.n_tensors);
            double largest = 0;
            for (const TensorError& error : report.errors) {
                CAPTURE(error.name);
                CHECK(error.relative_rms <= limit);
                largest = std::max(largest, error.relative_rms);
            }
            if (type == DType::q4_0) CHECK(largest > 0.01);
        }
    }
}

TEST_CASE("every flipped bit of a tensor's data is noticed and the tensor named") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q8_0);
    const std::string good = read_file(folder / "m.gguf");
    for (const char* name : {"token_embd.weight", "blk.0.ssm_a", "output_norm.weight"}) {
        const size_t start = offset_of(folder / "m.gguf", name);
        for (size_t bit = 0; bit < 64; bit += 5) {
            std::string bytes = good;
            bytes[start + bit / 8] = static_cast<char>(bytes[start + bit / 8] ^ (1 << (bit % 8)));
            write_file(folder / "bad.gguf", bytes);
            check_contains(problems(verify(folder / "bad.gguf")),
                           std::string("tensor ") + name + ": its bytes have checksum");
        }
    }
}

TEST_CASE("weights that are not finite are counted and the first is named") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::f32);
    std::string bytes = read_file(folder / "m.gguf");
    const size_t start = offset_of(folder / "m.gguf", "blk.0.ssm_in.weight");
    const float values[] = {std::numeric_limits<float>::quiet_NaN(),
                            -std::numeric_limits<float>::infinity()};
    for (size_t i = 0; i < 2; ++i)
        std::memcpy(bytes.data() + start + 4 * (10 + 20 * i), &values[i], sizeof(float));
    write_file(folder / "bad.gguf", bytes);
    check_contains(problems(verify(folder / "bad.gguf")),
                   "tensor blk.0.ssm_in.weight: 2 of 8448 weights are not finite, the first is "
                   "element 10");
    check_contains(problems(verify(folder / "bad.gguf", kGoldenModels / "dense")),
                   "tensor blk.0.ssm_in.weight differs from the checkpoint");

    // A block's scale, in a file whose checksums are right.
    convert(kGoldenModels / "dense", folder / "q.gguf", DType::q8_0);
    bytes = read_file(folder / "q.gguf");
    const uint16_t infinity = 0x7C00;
    std::memcpy(bytes.data() + offset_of(folder / "q.gguf", "blk.0.ssm_in.weight") + 34, &infinity,
                sizeof infinity);
    write_file(folder / "bad.gguf", bytes);
    rewrite(folder / "bad.gguf", folder / "scale.gguf", {});
    const std::string found = problems(verify(folder / "scale.gguf"));
    check_contains(found, "tensor blk.0.ssm_in.weight: ");
    check_contains(found, "weights are not finite, the first is element 3");
    CHECK_FALSE(contains(found, "checksum"));
}

TEST_CASE("the factors of an NVFP4 tensor apply to its matrices one by one") {
    const TempFolder folder;
    GgufWriter writer(
        folder / "m.gguf", GgufMetadata(),
        {{"x.weight", DType::nvfp4, {64, 1, 2, 1}, 3}, {"x.scale", DType::f32, {2, 1, 1, 1}, 1}});
    const std::string zeros(2 * 36, '\0');
    const float factors[] = {1.0f, std::numeric_limits<float>::infinity()};
    writer.write(std::as_bytes(std::span(zeros)));
    writer.write(std::as_bytes(std::span(factors)));
    writer.finish();
    const std::string found = problems(verify(folder / "m.gguf"));
    check_contains(found, "x.weight: 64 of 128 weights are not finite, the first is element 64");
    check_contains(found, "x.scale: 1 of 2 weights are not finite, the first is element 1");
}

TEST_CASE("missing, unexpected and misshapen tensors are named") {
    const TempFolder folder;
    const auto path = folder / "m.gguf";
    convert(kGoldenModels / "dense", path, DType::f32);
    const auto found = [&](const Rewrite& how) {
        rewrite(path, folder / "bad.gguf", how);
        return problems(verify(folder / "bad.gguf"));
    };
    CHECK(found({}).empty());
    const std::string tensor = "blk.0.ssm_in.weight";
    check_contains(found({.drop = tensor}), "tensor " + tensor + " is missing");
    const std::string renamed = found({.rename = tensor});
    check_contains(renamed, "tensor " + tensor + " is missing");
    check_contains(renamed, "tensor new.weight is not part of the model");
    check_contains(found({.transpose = tensor}), "tensor " + tensor + " has dims [");
    check_contains(found({.drop_key = "nemotron_h.block_count"}), "block_count is missing");
    check_contains(found({.drop_key = "tokenizer.ggml.tokens"}), "tokenizer.ggml.tokens");
}

TEST_CASE("against another checkpoint every difference shows") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q4_0);
    TestCheckpoint other = golden_checkpoint("dense");
    TestTensor& tensor = other.tensor("backbone.layers.0.mixer.in_proj.weight");
    std::ranges::reverse(tensor.bytes);
    for (char& c : tensor.bytes) c = static_cast<char>(c & 0x3F);  // finite, whatever the type
    other.write(folder / "other");
    const VerifyReport report = verify(folder / "m.gguf", folder / "other");
    REQUIRE(report.problems.size() == 1);
    check_contains(report.problems[0], "tensor blk.0.ssm_in.weight differs from the checkpoint");
    const VerifyReport foreign = verify(folder / "m.gguf", kGoldenModels / "per_layer");
    CHECK(foreign.problems.size() > 3);
    CHECK_THROWS_AS(verify(folder / "m.gguf", folder / "nowhere"), Error);
}

// The file with its checksums replaced by others of the same lengths.
VerifyReport verify_with_checksum(const TempFolder& folder, const std::string& from,
                                  const std::string& to) {
    std::string bytes = read_file(folder / "m.gguf");
    const size_t offset = bytes.find(from);
    REQUIRE(offset != std::string::npos);
    bytes.replace(offset, from.size(), to);
    write_file(folder / "bad.gguf", bytes);
    return verify(folder / "bad.gguf");
}

TEST_CASE("checksums that are missing, of another type or no checksums at all") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q8_0);
    const VerifyReport other_type =
        verify_with_checksum(folder, "Q8_0 token_embd.weight", "Q4_K token_embd.weight");
    CHECK(other_type.problems.empty());
    REQUIRE(other_type.notes.size() == 1);
    check_contains(other_type.notes[0], "1 tensors have a checksum of another type");
    const VerifyReport no_entry =
        verify_with_checksum(folder, "Q8_0 token_embd.weight", "Q8_0 token_embd.wwight");
    CHECK(no_entry.problems.empty());
    REQUIRE(no_entry.notes.size() == 1);
    check_contains(no_entry.notes[0], "1 tensors have no checksum");
    for (const char* bad : {" Q8_0ttoken_embd.weight", "xQ8_0 token_embd.weight"})
        check_contains(problems(verify_with_checksum(folder, " Q8_0 token_embd.weight", bad)),
                       "which is no checksum");
    // Another key in its place: the file says nothing about checksums.
    const VerifyReport none =
        verify_with_checksum(folder, kTensorChecksumsKey, "nemo.tensor_ch_cksums");
    CHECK(none.problems.empty());
    REQUIRE(none.notes.size() == 1);
    check_contains(none.notes[0], "no checksums to compare with");
}

TEST_CASE("bytes behind the last tensor are a problem, its padding is not") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q8_0);
    const std::string bytes = read_file(folder / "m.gguf");
    const TensorView last = ModelFile::open(folder / "m.gguf").tensors().back();
    const auto n_padding = static_cast<size_t>(32 - last.n_bytes() % 32) % 32;
    write_file(folder / "tight.gguf", bytes.substr(0, bytes.size() - n_padding));
    CHECK(problems(verify(folder / "tight.gguf")).empty());
    write_file(folder / "long.gguf", bytes + "x");
    CHECK(problems(verify(folder / "long.gguf")) == "1 bytes follow the last tensor\n");
}

TEST_CASE("the report is text that cannot harm a terminal") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q8_0);
    const ModelFile file = ModelFile::open(folder / "m.gguf");
    VerifyReport report = verify_model(file, kGoldenModels / "dense", 1, kSilent);
    const std::string sound = verify_text(file, report);
    check_contains(sound, "token_embd.weight");
    check_contains(sound, "m.gguf: sound; 32 tensors");
    report.problems.emplace_back("tensor \x1b[2J\nx");
    const std::string bad = verify_text(file, report);
    check_contains(bad, "problem: tensor \xEF\xBF\xBD[2J\xEF\xBF\xBDx\n");
    check_contains(bad, "1 problem(s)");
}

TEST_CASE("verification can be stopped between slabs") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "m.gguf", DType::q8_0);
    const ModelFile file = ModelFile::open(folder / "m.gguf");
    int n_calls = 0;
    error_message(
        [&] {
            verify_model(file, {}, 1, [&](const ConvertProgress& progress) {
                CHECK(progress.n_done_bytes <= progress.n_total_bytes);
                if (++n_calls == 3) fail(ErrorCode::interrupted, "stop");
            });
        },
        ErrorCode::interrupted);
    CHECK(n_calls == 3);
}

}  // namespace
}  // namespace nemo
