#include "convert/plan.h"

#include "convert/hf_config.h"
#include "convert/llama_cpp.h"
#include "convert/nvfp4_scale.h"
#include "core/error.h"
#include "core/tokenizer_data.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <tuple>

namespace nemo {

namespace {

constexpr size_t kMaxNamedTensors = 10;

Json read_json_file(const std::filesystem::path& path) {
    const MappedFile file = MappedFile::open(path);
    return parse_json(file.text(), file.path());
}

// ---------------------------------------------------------------- tensors

// "a" or "a, b, ...": the first few names.
std::string some_of(const std::vector<std::string>& names) {
    std::string text;
    const size_t n_named = std::min(names.size(), kMaxNamedTensors);
    for (size_t i = 0; i < n_named; ++i) text += (i ? ", " : "") + names[i];
    return n_named < names.size() ? text + ", ..." : text;
}

// Tensors whose rows do not fit the wanted format, one warning per kind.
class MisfitWarnings {
public:
    void add(const TensorSpec& spec, const TensorType& type) {
        if (type.wanted != type.dtype)
            names_[{type.wanted, type.dtype, spec.dims[0]}].push_back(spec.name);
    }

    void append_to(std::vector<std::string>& warnings) const {
        for (const auto& [kind, names] : names_) {
            const auto& [wanted, dtype, row_length] = kind;
            const std::string subject = names.size() == 1
                                            ? names[0] + " becomes"
                                            : fmt::format("{} tensors become", names.size());
            const std::string list = names.size() == 1 ? "" : ": " + some_of(names);
            warnings.push_back(fmt::format("{} {}: rows of {} are no whole blocks of {}{}", subject,
                                           dtype_info(dtype).name, row_length,
                                           dtype_info(wanted).name, list));
        }
    }

private:
    std::map<std::tuple<DType, DType, int64_t>, std::vector<std::string>> names_;
};

// Whether the checkpoint has the tensor in the very format that is asked for: as 4-bit floats,
// which a mix might give to other tensors only, and which encoding anew would change.
bool keeps_stored(const PlannedTensor& tensor, const OutputType& type) {
    if (tensor.spec.always_f32 || tensor.source->encoded_type() != type.base) return false;
    return type.base == DType::mxfp4 || (type.base == DType::nvfp4 && can_be_nvfp4(tensor));
}

void plan_tensors(const ModelConfig& config, const OutputType& type, const std::string& source,
                  ConversionPlan& plan) {
    CheckpointTensors checkpoint(plan.weights, read_quantization_config(source), source);
    std::vector<TensorSpec> specs = tensor_inventory(config);
    const std::vector<TensorType> types = choose_types(config, specs, type);
    MisfitWarnings misfits;
    for (size_t i = 0; i < specs.size(); ++i) {
        WeightSourcePtr tensor = checkpoint.bind(specs[i]);
        misfits.add(specs[i], types[i]);
        PlannedTensor planned = {std::move(specs[i]), types[i].dtype, std::move(tensor)};
        if (keeps_stored(planned, type)) planned.dtype = type.base;
        append_tensor(std::move(planned), plan.tensors);
    }
    misfits.append_to(plan.warnings);
    const std::vector<std::string> unused = checkpoint.unused_tensors();
    if (unused.empty()) return;
    plan.warnings.push_back(fmt::format("{} tensors are not part of the model and are left out: {}",
                                        unused.size(), some_of(unused)));
}

// ---------------------------------------------------------------- metadata

// Embedding tables are often larger than the vocabulary; the file needs a token for every row.
void fit_vocabulary(TokenizerData& tokenizer, int64_t n_vocab, const std::string& source) {
    if (std::ssize(tokenizer.tokens) > n_vocab) {
        fail(ErrorCode::bad_file,
             "{}: the tokenizer has {} tokens, but config.json has vocab_size {}", source,
             tokenizer.tokens.size(), n_vocab);
    }
    pad_vocabulary(tokenizer, static_cast<size_t>(n_vocab));
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

}  // namespace

std::vector<GgufTensorInfo> ConversionPlan::tensor_infos() const {
    std::vector<GgufTensorInfo> infos;
    for (const PlannedTensor& tensor : tensors) infos.push_back(tensor.info());
    return infos;
}

ConversionPlan make_plan(const std::filesystem::path& directory, const OutputType& type) {
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
    std::ranges::move(llama_cpp_limits(config), std::back_inserter(plan.warnings));

    TokenizerData tokenizer = tokenizer_from_hf(directory);
    fit_vocabulary(tokenizer, config.n_vocab, directory.string());

    add_config_metadata(config, plan.metadata);
    plan.metadata.set_string("general.type", "model");
    plan.metadata.set_u32("general.file_type", type.file_type);
    plan.metadata.set_u32("general.quantization_version", 2);
    add_sampling_metadata(directory / "generation_config.json", plan.metadata);
    add_tokenizer_metadata(tokenizer, plan.metadata);
    return plan;
}

ConversionPlan make_plan(const std::filesystem::path& directory, DType type) {
    return make_plan(directory, uniform_output_type(type));
}

std::string plan_table(const ConversionPlan& plan) {
    std::string table =
        fmt::format("{:<28} {:<20} {:<8} {:<6} {:>14}\n", "tensor", "shape", "from", "to", "bytes");
    uint64_t n_source_bytes = 0;
    uint64_t n_target_bytes = 0;
    for (const PlannedTensor& tensor : plan.tensors) {
        const uint64_t n_bytes = tensor.info().n_bytes();
        table += fmt::format("{:<28} {:<20} {:<8} {:<6} {:>14}\n", tensor.spec.name,
                             dims_text(tensor.spec.dims), tensor.source->type_name(),
                             dtype_info(tensor.dtype).name, n_bytes);
        n_source_bytes += tensor.source->n_bytes();
        n_target_bytes += n_bytes;
    }
    table += fmt::format("{} tensors, {} bytes -> {} bytes; file {} bytes\n", plan.tensors.size(),
                         n_source_bytes, n_target_bytes,
                         gguf_file_bytes(plan.metadata, plan.tensor_infos()));
    return table;
}

}  // namespace nemo
