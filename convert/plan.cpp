#include "convert/plan.h"

#include "convert/hf_config.h"
#include "core/error.h"
#include "core/tokenizer_data.h"

#include <algorithm>
#include <limits>

namespace nemo {

namespace {

constexpr size_t kMaxNamedTensors = 10;

struct OutputType {
    DType dtype;
    uint32_t file_type;  // llama.cpp's number for general.file_type
};

constexpr OutputType kOutputTypes[] = {
    {DType::f32, 0}, {DType::f16, 1}, {DType::bf16, 32}, {DType::q8_0, 7}, {DType::q4_0, 2},
};

Json read_json_file(const std::filesystem::path& path) {
    const MappedFile file = MappedFile::open(path);
    return parse_json(file.text(), file.path());
}

// ---------------------------------------------------------------- tensors

DType dtype_for(const TensorSpec& spec, DType type) {
    if (spec.always_f32) return DType::f32;
    return spec.dims[0] % dtype_info(type).block_size == 0 ? type : DType::f16;
}

void plan_tensors(const ModelConfig& config, DType type, const std::string& source,
                  ConversionPlan& plan) {
    CheckpointTensors checkpoint(plan.weights, source);
    for (TensorSpec& spec : tensor_inventory(config)) {
        TensorSource tensor = checkpoint.bind(spec);
        const DType dtype = dtype_for(spec, type);
        if (!spec.always_f32 && dtype != type) {
            plan.warnings.push_back(
                fmt::format("{} becomes {}: its rows of {} are no whole blocks of {}", spec.name,
                            dtype_info(dtype).name, spec.dims[0], dtype_info(type).name));
        }
        plan.tensors.push_back({std::move(spec), dtype, std::move(tensor)});
    }
    const std::vector<std::string> unused = checkpoint.unused_tensors();
    if (unused.empty()) return;
    std::string warning =
        fmt::format("{} tensors are not part of the model and are left out:", unused.size());
    const size_t n_named = std::min(unused.size(), kMaxNamedTensors);
    for (size_t i = 0; i < n_named; ++i) warning += (i ? ", " : " ") + unused[i];
    if (n_named < unused.size()) warning += ", ...";
    plan.warnings.push_back(std::move(warning));
}

// ---------------------------------------------------------------- metadata

// Embedding tables are often larger than the vocabulary; the file needs a token for every row.
void pad_vocabulary(TokenizerData& tokenizer, int64_t n_vocab, const std::string& source) {
    const int64_t n_tokens = std::ssize(tokenizer.tokens);
    if (n_tokens > n_vocab) {
        fail(ErrorCode::bad_file,
             "{}: the tokenizer has {} tokens, but config.json has vocab_size {}", source, n_tokens,
             n_vocab);
    }
    for (int64_t i = n_tokens; i < n_vocab; ++i) {
        tokenizer.tokens.push_back(fmt::format("[PAD{}]", i));
        tokenizer.types.push_back(TokenType::unused);
        // SentencePiece only: never the best merge.
        if (!tokenizer.scores.empty()) tokenizer.scores.push_back(-10000.0f);
    }
}

// A number of generation_config.json, or nullptr if absent.
const Json* sampling_number(const Json& config, const char* key, double low, double high,
                            const std::string& source) {
    const Json* value = config.find(key);
    if (value == nullptr || value->is_null()) return nullptr;
    if (!value->is_number() || !(value->number() >= low && value->number() <= high)) {
        fail(ErrorCode::bad_file, "{}: {} is {}, expected a number from {} to {}", source, key,
             to_json_text(*value), low, high);
    }
    return value;
}

// The author's sampling advice becomes the file's defaults: nemo.sampling.*, absent keys are
// absent.
void add_sampling_metadata(const std::filesystem::path& path, GgufMetadata& metadata) {
    if (!std::filesystem::exists(path)) return;
    const Json config = read_json_file(path);
    const std::string source = path.string();
    struct Field {
        const char* key;
        double low;
        double high;
    };
    constexpr Field kFields[] = {{"temperature", 0.0, 100.0},
                                 {"top_p", 0.0, 1.0},
                                 {"min_p", 0.0, 1.0},
                                 {"repetition_penalty", 0.01, 100.0}};
    for (const Field& field : kFields) {
        const Json* value = sampling_number(config, field.key, field.low, field.high, source);
        if (value == nullptr) continue;
        metadata.set_f32(std::string("nemo.sampling.") + field.key,
                         static_cast<float>(value->number()));
    }
    constexpr double kMaxTopK = std::numeric_limits<int32_t>::max();
    if (const Json* value = sampling_number(config, "top_k", 0.0, kMaxTopK, source)) {
        metadata.set_u32("nemo.sampling.top_k", static_cast<uint32_t>(value->number()));
    }
    const Json* do_sample = config.find("do_sample");
    if (do_sample != nullptr && *do_sample == Json(false)) {
        metadata.set_f32("nemo.sampling.temperature", 0.0f);
    }
}

uint32_t file_type_of(DType type) {
    const auto* found = std::ranges::find(kOutputTypes, type, &OutputType::dtype);
    NEMO_ASSERT(found != std::end(kOutputTypes));
    return found->file_type;
}

}  // namespace

std::string output_type_names() {
    std::string names;
    for (const OutputType& type : kOutputTypes) {
        names += (names.empty() ? "" : ", ") + std::string(dtype_info(type.dtype).name);
    }
    return names;
}

std::optional<DType> output_type_from_name(std::string_view name) {
    const std::optional<DType> dtype = dtype_from_name(name);
    const bool known = dtype && std::ranges::find(kOutputTypes, *dtype, &OutputType::dtype) !=
                                    std::end(kOutputTypes);
    return known ? dtype : std::nullopt;
}

std::vector<GgufTensorInfo> ConversionPlan::tensor_infos() const {
    std::vector<GgufTensorInfo> infos;
    for (const PlannedTensor& tensor : tensors) infos.push_back(tensor.info());
    return infos;
}

ConversionPlan make_plan(const std::filesystem::path& directory, DType type) {
    if (!std::filesystem::is_directory(directory)) {
        fail(ErrorCode::bad_file,
             "{}: not a directory; give the folder of a Hugging Face checkpoint",
             directory.string());
    }
    const std::filesystem::path config_path = directory / "config.json";
    ModelConfig config = config_from_hf(read_json_file(config_path), config_path.string());
    config.name = std::filesystem::canonical(directory).filename().string();

    ConversionPlan plan;
    plan.weights = SafetensorsSet::open(directory);
    plan_tensors(config, type, directory.string(), plan);

    TokenizerData tokenizer = tokenizer_from_hf(directory);
    pad_vocabulary(tokenizer, config.n_vocab, directory.string());

    add_config_metadata(config, plan.metadata);
    plan.metadata.set_string("general.type", "model");
    plan.metadata.set_u32("general.file_type", file_type_of(type));
    plan.metadata.set_u32("general.quantization_version", 2);
    add_sampling_metadata(directory / "generation_config.json", plan.metadata);
    add_tokenizer_metadata(tokenizer, plan.metadata);
    return plan;
}

std::string plan_table(const ConversionPlan& plan) {
    std::string table =
        fmt::format("{:<28} {:<20} {:<8} {:<6} {:>14}\n", "tensor", "shape", "from", "to", "bytes");
    uint64_t n_source_bytes = 0;
    uint64_t n_target_bytes = 0;
    for (const PlannedTensor& tensor : plan.tensors) {
        const uint64_t n_bytes = tensor.info().n_bytes();
        table += fmt::format(
            "{:<28} {:<20} {:<8} {:<6} {:>14}\n", tensor.spec.name, dims_text(tensor.spec.dims),
            safetensors_type_name(tensor.source.type()), dtype_info(tensor.dtype).name, n_bytes);
        n_source_bytes += tensor.source.n_bytes();
        n_target_bytes += n_bytes;
    }
    table += fmt::format("{} tensors, {} bytes -> {} bytes; file {} bytes\n", plan.tensors.size(),
                         n_source_bytes, n_target_bytes,
                         gguf_file_bytes(plan.metadata, plan.tensor_infos()));
    return table;
}

}  // namespace nemo
