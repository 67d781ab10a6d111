// The plan of a GGUF file made from another one.
//
// All tensors stay, in the input's order, those that nobody here knows too, such as biases, but for
// a prediction head that is to be left out. A tensor that already has the wanted format is copied
// bit for bit, with its NVFP4 factors; one that gets another format loses its factors, which are
// applied.
#include "convert/gguf_plan.h"

#include "convert/gguf_source.h"
#include "convert/nvfp4_scale.h"
#include "convert/planning.h"
#include "core/error.h"
#include "core/tensor_checksums.h"

#include <algorithm>
#include <map>
#include <set>

namespace nemo {

namespace {

struct Input {
    std::shared_ptr<const ModelFile> file;
    TensorChecksums checksums;

    WeightSourcePtr source(const TensorView& tensor) const {
        return std::make_shared<GgufSource>(file, tensor, checksums.of(tensor));
    }
};

bool is_float(DType dtype) {
    return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

PlannedTensor copied(const Input& input, const TensorView& tensor) {
    int n_dims = static_cast<int>(tensor.dims.size());
    while (n_dims > 1 && tensor.dims[static_cast<size_t>(n_dims) - 1] == 1) --n_dims;
    const bool is_f32 = tensor.dtype == DType::f32;
    return {{TensorRole::other, -1, -1, tensor.name, tensor.dims, n_dims, is_f32},
            tensor.dtype,
            input.source(tensor)};
}

// The tensors that the configuration asks for, by name, in the formats they get. Throws
// Error{bad_file} if one is missing or has other dims.
std::map<std::string, PlannedTensor> requantized_tensors(const Input& input,
                                                         const ModelConfig& config,
                                                         const OutputType& type,
                                                         std::vector<std::string>& warnings) {
    const ModelFile& file = *input.file;
    const std::vector<TensorSpec> specs = tensor_inventory(config);
    const std::vector<TensorType> types = choose_types(config, specs, type);
    std::map<std::string, PlannedTensor> result;
    MisfitWarnings misfits;
    for (size_t i = 0; i < specs.size(); ++i) {
        TensorSpec spec = specs[i];
        // The values come last of the three, and are the most sensitive: their format it is.
        const TensorView* tensor = file.find(fused_name(spec));
        if (tensor != nullptr) {
            spec.name = tensor->name;
            spec.dims = tensor->dims;
        } else {
            tensor = file.find(spec.name);
            TensorSpec expected = spec;
            expected.always_f32 = false;  // it will be
            const std::string problem = tensor_problem(expected, tensor);
            if (!problem.empty()) fail(ErrorCode::bad_file, "{}: {}", file.path(), problem);
        }
        PlannedTensor planned = {std::move(spec), types[i].dtype, input.source(*tensor)};
        set_type(planned, types[i], type);
        misfits.add(planned);
        result.insert_or_assign(tensor->name, std::move(planned));
    }
    misfits.append_to(warnings);
    return result;
}

// Whether a tensor that the configuration does not ask for is kept: all but the factors of a known
// NVFP4 tensor, which come with that (convert/nvfp4_scale.h), and the scales of its activations if
// it becomes something else.
bool stays(const TensorView& tensor, const std::map<std::string, PlannedTensor>& known,
           const ModelFile& file) {
    const size_t dot = tensor.name.rfind('.');
    const auto owner = known.find(tensor.name.substr(0, dot) + ".weight");
    const std::string suffix = dot == std::string::npos ? "" : tensor.name.substr(dot);
    if (owner == known.end() || (suffix != ".scale" && suffix != ".input_scale")) return true;
    const DType dtype = file.find(owner->first)->dtype;
    if (suffix == ".input_scale") return owner->second.dtype == dtype;
    if (dtype != DType::nvfp4)
        fail(ErrorCode::bad_file, "{}: tensor {} scales a tensor of type {}, not NVFP4",
             file.path(), tensor.name, dtype_info(dtype).name);
    return false;
}

ModelConfig config_to_requantize(const ModelFile& file) {
    try {
        return config_from_gguf(file);
    } catch (const Error& error) {
        if (error.code() != ErrorCode::bad_file) throw;
        fail(ErrorCode::bad_file,
             "{}; without --type its tensors can be copied, split, merged and its keys edited",
             error.what());
    }
}

// Types whose loss adds to that of the new one.
class LossWarning {
public:
    void add(DType from, DType to) {
        if (from == to || is_float(from) || is_float(to)) return;
        types_.insert(dtype_info(from).name);
        ++n_tensors_;
    }

    void append_to(std::vector<std::string>& warnings) const {
        if (n_tensors_ == 0) return;
        std::string names;
        for (const std::string_view name : types_)
            names += (names.empty() ? "" : ", ") + std::string(name);
        warnings.push_back(
            fmt::format("{} tensors are quantized a second time, from {}: a file made from the "
                        "checkpoint or from F16, BF16 or F32 is better",
                        n_tensors_, names));
    }

private:
    std::set<std::string_view> types_;
    int64_t n_tensors_ = 0;
};

void plan_requantized(const Input& input, const OutputType& type, ConversionPlan& plan) {
    plan.config = config_to_requantize(*input.file);
    const auto known = requantized_tensors(input, *plan.config, type, plan.warnings);
    LossWarning losses;
    for (const TensorView& tensor : input.file->tensors()) {
        if (const auto found = known.find(tensor.name); found != known.end()) {
            losses.add(tensor.dtype, found->second.dtype);
            append_tensor(found->second, plan.tensors);
            continue;
        }
        if (stays(tensor, known, *input.file)) plan.tensors.push_back(copied(input, tensor));
    }
    losses.append_to(plan.warnings);
    set_file_type(type, plan);
    // They tell of the encoding that is being replaced.
    plan.metadata.erase_if(
        [](std::string_view key) { return key.starts_with("quantize.imatrix."); });
}

void plan_copied(const Input& input, ConversionPlan& plan) {
    for (const TensorView& tensor : input.file->tensors())
        plan.tensors.push_back(copied(input, tensor));
    try {
        plan.config = config_from_gguf(*input.file);
    } catch (const Error&) {
        // Of another architecture: copied all the same.
    }
}

// All keys but those that say how the tensors lie in the file.
GgufMetadata kept_metadata(const ModelFile& file) {
    GgufMetadata metadata = file.metadata();
    for (const char* key : {"general.alignment", "split.no", "split.count", "split.tensors.count",
                            kTensorChecksumsKey})
        metadata.erase(key);
    return metadata;
}

// The prediction blocks are the last ones; without them the file is as if it never had any.
void leave_out_prediction_head(ConversionPlan& plan) {
    if (!plan.config)
        fail(ErrorCode::bad_file,
             "{}: of an architecture that nemo does not know; which of its blocks are a prediction "
             "head it cannot tell",
             plan.input_files.at(0).string());
    if (plan.config->prediction_blocks.empty()) return;
    std::set<std::string> dropped;
    for (const TensorSpec& spec : tensor_inventory(*plan.config))
        if (spec.is_prediction()) dropped.insert(fmt::format("blk.{}.", spec.block));
    std::erase_if(plan.tensors, [&](const PlannedTensor& tensor) {
        return std::ranges::any_of(dropped, [&](const std::string& prefix) {
            return tensor.spec.name.starts_with(prefix);
        });
    });
    plan.config->prediction_blocks.clear();
    plan.metadata.erase(plan.config->architecture + ".nextn_predict_layers");
    add_config_metadata(*plan.config, plan.metadata);
}

}  // namespace

ConversionPlan make_gguf_plan(const std::filesystem::path& path,
                              const std::optional<OutputType>& type, PredictionHead head) {
    const auto file = std::make_shared<const ModelFile>(ModelFile::open(path));
    const Input input = {file, TensorChecksums(file->metadata())};
    ConversionPlan plan;
    plan.metadata = kept_metadata(*file);
    plan.input_files = file->part_paths();
    if (type)
        plan_requantized(input, *type, plan);
    else
        plan_copied(input, plan);
    if (head == PredictionHead::leave_out) leave_out_prediction_head(plan);
    return plan;
}

}  // namespace nemo
