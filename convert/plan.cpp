#include "convert/plan.h"

#include "convert/gguf_plan.h"
#include "convert/hf_config.h"
#include "convert/llama_cpp.h"
#include "convert/nvfp4_scale.h"
#include "convert/planning.h"
#include "core/error.h"
#include "core/tokenizer_data.h"
#include "core/utf8.h"

#include <algorithm>
#include <iterator>
#include <limits>

namespace nemo {

namespace {

// ---------------------------------------------------------------- tensors

void plan_tensors(const ModelConfig& config, const OutputType& type, PredictionHead head,
                  const std::string& source, ConversionPlan& plan) {
    CheckpointTensors checkpoint(plan.weights, read_quantization_config(source), source);
    std::vector<TensorSpec> specs = tensor_inventory(config);
    const std::vector<TensorType> types = choose_types(config, specs, type);
    MisfitWarnings misfits;
    for (size_t i = 0; i < specs.size(); ++i) {
        WeightSourcePtr tensor = checkpoint.bind(specs[i]);
        PlannedTensor planned = {std::move(specs[i]), types[i].dtype, std::move(tensor)};
        set_type(planned, types[i], type);
        misfits.add(planned);
        append_tensor(std::move(planned), plan.tensors);
    }
    misfits.append_to(plan.warnings);
    const std::vector<std::string> unused = checkpoint.unused_tensors(head == PredictionHead::keep);
    if (unused.empty()) return;
    plan.warnings.push_back(fmt::format("{} tensors are not part of the model and are left out: {}",
                                        unused.size(), some_of(unused)));
}

// The checkpoint's own files: a folder may also be where results are put.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& directory) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        if (entry.is_regular_file() && entry.path().extension() != ".gguf")
            files.push_back(entry.path());
    return files;
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

const float* PlannedTensor::importance_of_row(int64_t row) const {
    if (importance == nullptr) return nullptr;
    return importance->mean_square.data() + row / spec.dims[1] * spec.dims[0];
}

int64_t ConversionPlan::n_weights() const {
    int64_t n = 0;
    for (const PlannedTensor& tensor : tensors) n += tensor.spec.n_elements();
    return n;
}

uint64_t ConversionPlan::n_tensor_bytes() const {
    uint64_t n = 0;
    for (const PlannedTensor& tensor : tensors) n += tensor.info().n_bytes();
    return n;
}

double ConversionPlan::bits_per_weight() const {
    const auto n = static_cast<double>(n_weights());
    return n > 0 ? 8 * static_cast<double>(n_tensor_bytes()) / n : 0;
}

std::vector<GgufTensorInfo> ConversionPlan::tensor_infos() const {
    return tensor_infos({GgufMetadata(), 0, tensors.size()});
}

std::vector<GgufTensorInfo> ConversionPlan::tensor_infos(const PlannedPart& part) const {
    std::vector<GgufTensorInfo> infos;
    for (size_t i = 0; i < part.n_tensors; ++i)
        infos.push_back(tensors[part.first_tensor + i].info());
    return infos;
}

namespace {

// plan.weights must be there.
ModelConfig read_config(const Json& json, const std::filesystem::path& path, PredictionHead head,
                        ConversionPlan& plan) {
    const bool has_head = CheckpointNames(plan.weights).has_prediction_head();
    const bool keeps_head = head == PredictionHead::keep && has_head;
    ModelConfig config = config_from_hf(json, path.string(), keeps_head);
    config.name = sanitize_utf8(std::filesystem::canonical(path.parent_path()).filename().string());
    if (head == PredictionHead::keep && !has_head && announces_prediction_head(json))
        plan.warnings.push_back(
            "config.json speaks of a prediction head, but the checkpoint has no mtp.* tensors");
    return config;
}

ConversionPlan make_checkpoint_plan(const std::filesystem::path& directory, const OutputType& type,
                                    PredictionHead head) {
    const std::filesystem::path config_path = directory / "config.json";
    const Json json = read_json_file(config_path);
    ConversionPlan plan;
    plan.weights = SafetensorsSet::open(directory);
    plan.input_files = files_of(directory);
    ModelConfig config = read_config(json, config_path, head, plan);
    plan_tensors(config, type, head, directory.string(), plan);
    std::ranges::move(llama_cpp_limits(config), std::back_inserter(plan.warnings));

    TokenizerData tokenizer = tokenizer_from_hf(directory);
    fit_vocabulary(tokenizer, config.n_vocab, directory.string());

    add_config_metadata(config, plan.metadata);
    plan.metadata.set_string("general.type", "model");
    set_file_type(type, plan);
    add_sampling_metadata(directory / "generation_config.json", plan.metadata);
    add_tokenizer_metadata(tokenizer, plan.metadata);
    plan.config = std::move(config);
    return plan;
}

}  // namespace

ConversionPlan make_plan(const std::filesystem::path& input, const std::optional<OutputType>& type,
                         PredictionHead head) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(input, error);
    if (status.type() == std::filesystem::file_type::none)
        fail(ErrorCode::bad_file, "{}: cannot open: {}", input.string(), error.message());
    if (std::filesystem::is_directory(status))
        return make_checkpoint_plan(input, type.value_or(uniform_output_type(kDefaultType)), head);
    if (std::filesystem::is_regular_file(status)) return make_gguf_plan(input, type, head);
    fail(ErrorCode::bad_file,
         "{}: neither a folder nor a file; give the folder of a Hugging Face checkpoint, or a GGUF "
         "file",
         input.string());
}

ConversionPlan make_plan(const std::filesystem::path& input, DType type) {
    return make_plan(input, uniform_output_type(type));
}

void use_importance(ConversionPlan& plan, std::shared_ptr<const Importance> importance) {
    size_t n_used = 0;
    size_t n_missing = 0;
    for (PlannedTensor& tensor : plan.tensors) {
        if (!is_encoded(tensor.spec)) continue;
        const std::array<int64_t, 4>& dims = tensor.spec.dims;
        const bool found =
            !importance->weights(tensor.spec.name, dims[0], dims[2] * dims[3]).empty();
        tensor.importance = found ? &importance->tensors.at(tensor.spec.name) : nullptr;
        ++(found ? n_used : n_missing);
    }
    if (n_used == 0)
        fail(ErrorCode::bad_file,
             "{}: has none of the model's tensors; it belongs to another model",
             importance->source);
    plan.notes.push_back(fmt::format("importance of {} tensors from {}{}", n_used,
                                     importance->source,
                                     n_missing > 0 ? fmt::format(", none for {}", n_missing) : ""));
    plan.metadata.set_string("quantize.imatrix.file", importance->source);
    if (!importance->datasets.empty())
        plan.metadata.set_string("quantize.imatrix.dataset", importance->datasets[0]);
    plan.metadata.set_u32("quantize.imatrix.entries_count",
                          static_cast<uint32_t>(importance->tensors.size()));
    plan.metadata.set_u32("quantize.imatrix.chunks_count",
                          static_cast<uint32_t>(importance->n_chunks));
    plan.importance = std::move(importance);
}

}  // namespace nemo
