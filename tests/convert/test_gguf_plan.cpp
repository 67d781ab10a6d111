// GGUF files made from GGUF files: copied, requantized, split, merged.
#include "checkpoint_fixture.h"
#include "convert/convert.h"
#include "convert/type_choice.h"
#include "core/model_file.h"
#include "quant/codec.h"

#include <cstring>

namespace nemo {
namespace {

const ProgressCallback kSilent = [](const ConvertProgress&) {};

void convert(const std::filesystem::path& input, const std::filesystem::path& output,
             const std::optional<OutputType>& type, uint64_t max_part_bytes = 0) {
    ConversionPlan plan = make_plan(input, type);
    plan.max_part_bytes = max_part_bytes;
    write_model(plan, output, 2, kSilent);
}

bool same_bytes(const TensorView& a, const TensorView& b) {
    return a.name == b.name && a.dtype == b.dtype && a.dims == b.dims &&
           std::memcmp(a.data, b.data, static_cast<size_t>(a.n_bytes())) == 0;
}

// A file as other programs write it, for what no golden model has: every tensor F32 zeros unless
// `bytes` says otherwise.
struct RawTensor {
    GgufTensorInfo info;
    std::string bytes;
};

void write_raw(const std::filesystem::path& path, const GgufMetadata& metadata,
               const std::vector<RawTensor>& tensors) {
    std::vector<GgufTensorInfo> infos;
    for (const RawTensor& tensor : tensors) infos.push_back(tensor.info);
    GgufWriter writer(path, metadata, infos);
    for (const RawTensor& tensor : tensors) writer.write(std::as_bytes(std::span(tensor.bytes)));
    writer.finish();
}

// The tensors and keys of a file, to be changed and written again.
std::vector<RawTensor> raw_tensors(const ModelFile& file) {
    std::vector<RawTensor> tensors;
    for (const TensorView& view : file.tensors()) {
        int n_dims = 4;
        while (n_dims > 1 && view.dims[static_cast<size_t>(n_dims) - 1] == 1) --n_dims;
        tensors.push_back({{view.name, view.dtype, view.dims, n_dims},
                           std::string(reinterpret_cast<const char*>(view.data),
                                       static_cast<size_t>(view.n_bytes()))});
    }
    return tensors;
}

TEST_CASE("requantizing an exact file is converting the checkpoint") {
    for (const char* model : {"dense", "moe_latent", "per_layer"}) {
        for (const char* name : {"Q8_0", "Q4_K_M", "F16"}) {
            CAPTURE(model);
            CAPTURE(name);
            const TempFolder folder;
            const OutputType type = output_type_from_name(name).value();
            convert(kGoldenModels / model, folder / "f32.gguf", uniform_output_type(DType::f32));
            convert(folder / "f32.gguf", folder / "again.gguf", type);
            convert(kGoldenModels / model, folder / "direct.gguf", type);
            const ModelFile again = ModelFile::open(folder / "again.gguf");
            const ModelFile direct = ModelFile::open(folder / "direct.gguf");
            REQUIRE(again.tensors().size() == direct.tensors().size());
            for (size_t i = 0; i < again.tensors().size(); ++i) {
                CAPTURE(again.tensors()[i].name);
                CHECK(same_bytes(again.tensors()[i], direct.tensors()[i]));
            }
            CHECK(again.metadata().get_integer("general.file_type") == type.file_type);
        }
    }
}

TEST_CASE("copied, split and merged, a file is what it was") {
    const TempFolder folder;
    convert(kGoldenModels / "moe", folder / "a.gguf", uniform_output_type(DType::q4_0));
    convert(folder / "a.gguf", folder / "b.gguf", std::nullopt);
    CHECK(read_file(folder / "a.gguf") == read_file(folder / "b.gguf"));
    const uint64_t n_bytes = std::filesystem::file_size(folder / "a.gguf");
    convert(folder / "a.gguf", folder / "s.gguf", std::nullopt, n_bytes / 2);
    const std::vector<std::string> names = names_in(folder / "");
    const size_t n_parts = names.size() - 2;
    REQUIRE(n_parts >= 2);
    convert(part_path(folder / "s.gguf", n_parts - 1, n_parts), folder / "m.gguf", std::nullopt);
    CHECK(read_file(folder / "m.gguf") == read_file(folder / "a.gguf"));

    std::filesystem::remove(part_path(folder / "s.gguf", 1, n_parts));
    check_contains(
        error_message([&] { make_plan(part_path(folder / "s.gguf", 0, n_parts), std::nullopt); }),
        part_path("s.gguf", 1, n_parts).string());
}

TEST_CASE("unknown keys and tensors stay, keys about the layout do not") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "in.gguf", uniform_output_type(DType::f16));
    const ModelFile in = ModelFile::open(folder / "in.gguf");
    std::vector<RawTensor> tensors = raw_tensors(in);
    tensors.insert(
        tensors.begin() + 1,
        {{"blk.99.nextn.eh_proj.weight", DType::f16, {8, 2, 1, 1}, 2}, std::string(32, '\1')});
    GgufMetadata metadata = in.metadata();
    metadata.set("other.flags", {GgufType::boolean, true, std::vector<bool>{true, false}});
    metadata.set_u32("general.file_type", 1);
    metadata.set_u16("split.count", 1);
    metadata.set_u32("general.alignment", 32);
    write_raw(folder / "more.gguf", metadata, tensors);
    convert(folder / "more.gguf", folder / "out.gguf", uniform_output_type(DType::q8_0));
    const ModelFile out = ModelFile::open(folder / "out.gguf");
    CHECK(out.tensors().at(1).name == "blk.99.nextn.eh_proj.weight");
    CHECK(out.tensors().at(1).dtype == DType::f16);
    CHECK(out.metadata().find("other.flags")->is_array);
    CHECK(out.metadata().get_integer("general.file_type") == 7);
    CHECK_FALSE(out.metadata().contains("split.count"));
    CHECK_FALSE(out.metadata().contains("general.alignment"));
}

TEST_CASE("what is already in the wanted type is copied; quantizing twice is warned of once") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "q8.gguf", uniform_output_type(DType::q8_0));
    CHECK(make_plan(folder / "q8.gguf", DType::q8_0).warnings.empty());
    CHECK(make_plan(folder / "q8.gguf", DType::f32).warnings.empty());
    const ConversionPlan plan = make_plan(folder / "q8.gguf", DType::q4_0);
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "tensors are quantized a second time, from Q8_0");
    // Damaged blocks pass a copy, but not a decoder.
    const ModelFile q8 = ModelFile::open(folder / "q8.gguf");
    std::vector<RawTensor> tensors = raw_tensors(q8);
    tensors[0].bytes[0] = '\0';
    tensors[0].bytes[1] = '\x7c';  // an infinite scale
    write_raw(folder / "bad.gguf", q8.metadata(), tensors);
    CHECK_NOTHROW(
        convert(folder / "bad.gguf", folder / "out.gguf", uniform_output_type(DType::q8_0)));
    CHECK(same_bytes(ModelFile::open(folder / "out.gguf").tensors()[0],
                     ModelFile::open(folder / "bad.gguf").tensors()[0]));
    check_contains(error_message([&] {
                       convert(folder / "bad.gguf", folder / "no.gguf",
                               uniform_output_type(DType::f16));
                   }),
                   "bad.gguf: tensor token_embd.weight: element");
}

// An MLP model whose up projection is NVFP4 with a factor, as ModelOpt files are converted.
void write_nvfp4(const std::filesystem::path& path) {
    const TempFolder folder;
    mlp_checkpoint(64).write(folder / "in");
    convert(folder / "in", folder / "f32.gguf", uniform_output_type(DType::f32));
    const ModelFile file = ModelFile::open(folder / "f32.gguf");
    std::vector<RawTensor> tensors = raw_tensors(file);
    for (size_t i = 0; i < tensors.size(); ++i) {
        RawTensor& tensor = tensors[i];
        if (tensor.info.name != "blk.0.ffn_up.weight") continue;
        const auto* values = reinterpret_cast<const float*>(tensor.bytes.data());
        std::string encoded;
        tensor.info.dtype = DType::nvfp4;
        encoded.resize(tensor.info.n_bytes());
        encode_row(DType::nvfp4, values, reinterpret_cast<std::byte*>(encoded.data()),
                   std::ssize(tensor.bytes) / 4);
        tensor.bytes = std::move(encoded);
        const float factor = 0.25f;
        std::string bytes(4, '\0');
        std::memcpy(bytes.data(), &factor, 4);
        for (const char* name : {"blk.0.ffn_up.scale", "blk.0.ffn_up.input_scale"})
            tensors.push_back({{name, DType::f32, {1, 1, 1, 1}, 1}, bytes});
        break;
    }
    write_raw(path, file.metadata(), tensors);
}

TEST_CASE("the factors of NVFP4 stay with its blocks, and are applied where these are decoded") {
    const TempFolder folder;
    write_nvfp4(folder / "in.gguf");
    const ModelFile in = ModelFile::open(folder / "in.gguf");
    convert(folder / "in.gguf", folder / "f32.gguf", uniform_output_type(DType::f32));
    const ModelFile out = ModelFile::open(folder / "f32.gguf");
    CHECK(out.find("blk.0.ffn_up.scale") == nullptr);
    CHECK(out.find("blk.0.ffn_up.input_scale") == nullptr);
    const TensorView* blocks = in.find("blk.0.ffn_up.weight");
    std::vector<float> values(static_cast<size_t>(blocks->n_elements()));
    decode_row(DType::nvfp4, blocks->data, values.data(), std::ssize(values));
    const auto* got = reinterpret_cast<const float*>(out.find("blk.0.ffn_up.weight")->data);
    for (size_t i = 0; i < values.size(); ++i) REQUIRE(got[i] == values[i] * 0.25f);

    convert(folder / "in.gguf", folder / "nvfp4.gguf", uniform_output_type(DType::nvfp4));
    const ModelFile kept = ModelFile::open(folder / "nvfp4.gguf");
    for (const char* name :
         {"blk.0.ffn_up.weight", "blk.0.ffn_up.scale", "blk.0.ffn_up.input_scale"}) {
        CAPTURE(name);
        REQUIRE(kept.find(name) != nullptr);
        CHECK(same_bytes(*kept.find(name), *in.find(name)));
    }
}

TEST_CASE("a file of an unknown architecture can be copied and split, not requantized") {
    const TempFolder folder;
    GgufMetadata metadata;
    metadata.set_string("general.architecture", "other");
    write_raw(folder / "in.gguf", metadata,
              {{{"a.weight", DType::q8_0, {32, 2, 1, 1}, 2}, std::string(68, 'x')},
               {{"b.weight", DType::f32, {3, 1, 2, 1}, 3}, std::string(24, 'y')}});
    convert(folder / "in.gguf", folder / "out.gguf", std::nullopt);
    CHECK(read_file(folder / "in.gguf") == read_file(folder / "out.gguf"));
    CHECK_FALSE(make_plan(folder / "in.gguf", std::nullopt).config.has_value());
    check_contains(error_message([&] { make_plan(folder / "in.gguf", DType::q4_0); }),
                   "without --type its tensors can be copied");
    check_contains(error_message([&] {
                       make_plan(folder / "in.gguf", std::nullopt, PredictionHead::leave_out);
                   }),
                   "in.gguf: of an architecture that nemo does not know");
}

TEST_CASE("AUTO changes no tensor, and the file is named by the type that most weights have") {
    const TempFolder folder;
    const OutputType automatic = output_type_from_name("AUTO").value();
    for (const auto& [dtype, number] : {std::pair(DType::f32, 0), std::pair(DType::bf16, 32),
                                        std::pair(DType::q4_0, 2), std::pair(DType::mxfp4, 38)}) {
        CAPTURE(number);
        convert(kGoldenModels / "moe", folder / "in.gguf", uniform_output_type(dtype));
        const ConversionPlan plan = make_plan(folder / "in.gguf", automatic);
        CHECK(plan.metadata.get_integer("general.file_type") == number);
        CHECK(plan.warnings.empty());
        write_model(plan, folder / "out.gguf", 2, kSilent);
        CHECK(read_file(folder / "out.gguf") == read_file(folder / "in.gguf"));
    }
    // Rows of 40 fit no block; as F16 they stay what they are.
    mlp_checkpoint(40).write(folder / "odd");
    convert(folder / "odd", folder / "odd.gguf", uniform_output_type(DType::f16));
    CHECK(make_plan(folder / "odd.gguf", automatic).warnings.empty());
    REQUIRE(make_plan(folder / "odd.gguf", DType::q8_0).warnings.size() == 1);
}

TEST_CASE("the importance that a file was encoded with is told of that file only") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "in.gguf", uniform_output_type(DType::f16));
    const ModelFile in = ModelFile::open(folder / "in.gguf");
    GgufMetadata metadata = in.metadata();
    metadata.set_string("quantize.imatrix.file", "old.imatrix");
    metadata.set_string("quantize.imatrix.dataset", "old.txt");
    metadata.set_u32("quantize.imatrix.entries_count", 99);
    write_raw(folder / "old.gguf", metadata, raw_tensors(in));
    const auto keys = [](const ConversionPlan& plan) {
        std::string text;
        for (const auto& [key, value] : plan.metadata.entries())
            if (key.starts_with("quantize.")) text += key.substr(key.rfind('.') + 1) + " ";
        return text;
    };
    CHECK(keys(make_plan(folder / "old.gguf", std::nullopt)) == "file dataset entries_count ");
    ConversionPlan plan = make_plan(folder / "old.gguf", DType::q4_0);
    CHECK(keys(plan).empty());

    auto importance = std::make_shared<Importance>();
    importance->source = "new.imatrix";
    const TensorView& matrix = *in.find("blk.0.ssm_in.weight");
    importance->tensors[matrix.name] = {
        std::vector<float>(static_cast<size_t>(matrix.dims[0]), 1.0f), {1}};
    use_importance(plan, importance);
    CHECK(plan.metadata.get_string("quantize.imatrix.file") == "new.imatrix");
    CHECK(keys(plan) == "file entries_count chunks_count ");
}

TEST_CASE("sizes, types of tensors and unknown tensors of a GGUF file") {
    const TempFolder folder;
    mlp_checkpoint(256).write(folder / "in");
    convert(folder / "in", folder / "f16.gguf", uniform_output_type(DType::f16));
    const ModelFile f16 = ModelFile::open(folder / "f16.gguf");
    std::vector<RawTensor> tensors = raw_tensors(f16);
    tensors.push_back({{"unknown.weight", DType::f16, {256, 2, 1, 1}, 2}, std::string(1024, 1)});
    write_raw(folder / "in.gguf", f16.metadata(), tensors);

    ConversionPlan plan = make_plan(folder / "in.gguf", DType::q8_0);
    TypeRequest request;
    request.bits_per_weight = 5;
    request.overrides = {{"ffn_up", DType::q6_k}};
    choose_measured_types(plan, request, [](size_t, size_t) {});
    CHECK(plan.bits_per_weight() <= 5);
    CHECK(plan.bits_per_weight() > 4.5);
    const auto type_of = [&](const char* name) {
        const auto found = std::ranges::find(
            plan.tensors, name, [](const PlannedTensor& t) -> const auto& { return t.spec.name; });
        REQUIRE(found != plan.tensors.end());
        return found->dtype;
    };
    CHECK(type_of("blk.0.ffn_up.weight") == DType::q6_k);
    CHECK(type_of("unknown.weight") == DType::f16);
    write_model(plan, folder / "out.gguf", 2, kSilent);
    CHECK(same_bytes(*ModelFile::open(folder / "out.gguf").find("unknown.weight"),
                     *ModelFile::open(folder / "in.gguf").find("unknown.weight")));
}

TEST_CASE("damage in the input gets no new checksum that calls it sound") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "in.gguf", uniform_output_type(DType::f16));
    std::string bytes = read_file(folder / "in.gguf");
    const ModelFile file = ModelFile::open(folder / "in.gguf");
    const TensorView& tensor = *file.find("blk.0.ssm_in.weight");
    const size_t offset =
        bytes.find(std::string_view(reinterpret_cast<const char*>(tensor.data), 64));
    REQUIRE(offset != std::string::npos);
    bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
    write_file(folder / "bad.gguf", bytes);
    const auto damaged = [&](const std::optional<OutputType>& type, uint64_t max_part_bytes) {
        return error_message(
            [&] { convert(folder / "bad.gguf", folder / "out.gguf", type, max_part_bytes); });
    };
    for (const std::string& message : {damaged(std::nullopt, 0), damaged(std::nullopt, 100'000),
                                       damaged(uniform_output_type(DType::q8_0), 0),
                                       damaged(uniform_output_type(DType::nvfp4), 0)}) {
        check_contains(message, "bad.gguf: tensor blk.0.ssm_in.weight: its bytes have checksum ");
    }
    CHECK(names_in(folder / "") == std::vector<std::string>{"bad.gguf", "in.gguf"});
}

TEST_CASE("a run that goes on in the middle of a tensor knows whether all of it is damaged") {
    const TempFolder folder;
    constexpr int64_t kBytes = int64_t{40} << 20;  // several slabs, of which the first are kept
    write_raw(folder / "in.gguf", GgufMetadata(),
              {{{"a.weight", DType::f32, {1024, kBytes / 4096, 1, 1}, 2}, std::string(kBytes, 0)}});
    std::string bytes = read_file(folder / "in.gguf");
    bytes[bytes.size() - kBytes] = 1;
    write_file(folder / "bad.gguf", bytes);
    for (const bool is_damaged : {false, true}) {
        const ConversionPlan plan =
            make_plan(folder / (is_damaged ? "bad.gguf" : "in.gguf"), std::nullopt);
        uint64_t n_kept = 0;
        const auto run = [&](uint64_t n_until) {
            write_model(
                plan, folder / "out.gguf", 1,
                [&](const ConvertProgress& progress) {
                    n_kept = progress.n_kept_bytes;
                    if (progress.n_done_bytes > n_until) fail(ErrorCode::interrupted, "stop");
                },
                OnRestart::resume);
        };
        CHECK_THROWS_AS(run(kBytes * 3 / 4), Error);
        if (is_damaged)
            check_contains(error_message([&] { run(kBytes); }), "bad.gguf: tensor a.weight: its ");
        else
            CHECK_NOTHROW(run(kBytes));
        CHECK(n_kept > 0);
    }
    CHECK(read_file(folder / "out.gguf") == read_file(folder / "in.gguf"));
}

TEST_CASE("hostile GGUF inputs are refused before anything is written") {
    const TempFolder folder;
    convert(kGoldenModels / "dense", folder / "in.gguf", uniform_output_type(DType::q8_0));
    const std::string bytes = read_file(folder / "in.gguf");
    write_file(folder / "short.gguf", bytes.substr(0, bytes.size() - 100));
    check_contains(error_message([&] { make_plan(folder / "short.gguf", std::nullopt); }),
                   "truncated");
    write_file(folder / "none.gguf", "");
    error_message([&] { make_plan(folder / "none.gguf", DType::q4_0); });

    const ModelFile file = ModelFile::open(folder / "in.gguf");
    std::vector<RawTensor> tensors = raw_tensors(file);
    tensors.pop_back();
    tensors.pop_back();
    write_raw(folder / "less.gguf", file.metadata(), tensors);
    check_contains(error_message([&] { make_plan(folder / "less.gguf", DType::q4_0); }),
                   "is missing");

    ConversionPlan plan = make_plan(folder / "in.gguf", std::nullopt);
    std::filesystem::create_symlink(folder / "in.gguf", folder / "link.gguf");
    for (const char* target : {"in.gguf", "link.gguf"})
        check_contains(
            error_message([&] { check_target(plan, folder / target, true); }, ErrorCode::runtime),
            "part of the input");
    check_contains(
        error_message([&] { check_target(plan, folder / "x-00001-of-00002.gguf", true); },
                      ErrorCode::usage),
        "names a part");
}

}  // namespace
}  // namespace nemo
