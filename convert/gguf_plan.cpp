// The plan of a GGUF file made from another one.
//
// All tensors stay, in the input's order, those that nobody here knows too: multi-token prediction
// blocks, biases, activation scales. A tensor that already has the wanted format is copied bit for
// bit, with its NVFP4 factors; one that gets another format loses its factors, which are applied.
#include "convert/gguf_plan.h"

#include "convert/gguf_source.h"
#include "convert/misfit_warnings.h"
#include "core/error.h"

#include <algorithm>
#include <map>
#include <set>

namespace nemo {

namespace {

bool is_float(DType dtype) {
    return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

TensorSpec spec_of(const TensorView& tensor) {
    int n_dims = static_cast<int>(tensor.dims.size());
    while (n_dims > 1 && tensor.dims[static_cast<size_t>(n_dims) - 1] == 1) --n_dims;
    return {TensorRole::other,         -1, -1, tensor.name, tensor.dims, n_dims,
            tensor.dtype == DType::f32};
}

// "blk.0.ssm_in" of "blk.0.ssm_in.scale", if that is what belongs to an NVFP4 tensor.
std::string factor_owner(const std::string& name, const ModelFile& file) {
    for (const std::string_view suffix : {".input_scale", ".scale"}) {
        if (!name.ends_with(suffix)) continue;
        const std::string owner = name.substr(0, name.size() - suffix.size()) + ".weight";
        const TensorView* tensor = file.find(owner);
        if (tensor != nullptr && tensor->dtype == DType::nvfp4) return owner;
    }
    return "";
}

struct Choice {
    TensorSpec spec;
    TensorType type;
};

// Formats by tensor name for what the configuration says the file consists of. Throws
// Error{bad_file} if a tensor is missing or has other dims.
std::map<std::string, Choice> choices(const ModelFile& file, const ModelConfig& config,
                                      const OutputType& type) {
    const std::vector<TensorSpec> specs = tensor_inventory(config);
    const std::vector<TensorType> types = choose_types(config, specs, type);
    std::map<std::string, Choice> result;
    for (size_t i = 0; i < specs.size(); ++i) {
        TensorSpec spec = specs[i];
        // The values come last of the three, and are the most sensitive: their format it is.
        const TensorView* fused = file.find(fused_name(spec));
        if (fused != nullptr) {
            spec.name = fused->name;
            spec.dims = fused->dims;
        } else {
            TensorSpec expected = spec;
            expected.always_f32 = false;  // it will be
            const std::string problem = tensor_problem(expected, file.find(spec.name));
            if (!problem.empty()) fail(ErrorCode::bad_file, "{}: {}", file.path(), problem);
        }
        std::string name = spec.name;
        result.insert_or_assign(std::move(name), Choice{std::move(spec), types[i]});
    }
    return result;
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
        if (is_float(from) || is_float(to)) return;
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

void plan_requantized(const std::shared_ptr<const ModelFile>& file, const OutputType& type,
                      ConversionPlan& plan) {
    plan.config = config_to_requantize(*file);
    const std::map<std::string, Choice> choice_of = choices(*file, *plan.config, type);
    MisfitWarnings misfits;
    LossWarning losses;
    for (const TensorView& tensor : file->tensors()) {
        const auto owner = choice_of.find(factor_owner(tensor.name, *file));
        if (owner != choice_of.end() && owner->second.type.dtype != DType::nvfp4) continue;
        auto source = std::make_shared<GgufSource>(file, tensor);
        const auto found = choice_of.find(tensor.name);
        if (found == choice_of.end()) {
            plan.tensors.push_back({spec_of(tensor), tensor.dtype, std::move(source)});
            continue;
        }
        const Choice& choice = found->second;
        misfits.add(choice.spec, choice.type);
        if (choice.type.dtype != tensor.dtype) losses.add(tensor.dtype, choice.type.dtype);
        plan.tensors.push_back({choice.spec, choice.type.dtype, std::move(source)});
    }
    misfits.append_to(plan.warnings);
    losses.append_to(plan.warnings);
    plan.metadata.set_u32("general.file_type", type.file_type);
    plan.metadata.set_u32("general.quantization_version", 2);
}

void plan_copied(const std::shared_ptr<const ModelFile>& file, ConversionPlan& plan) {
    for (const TensorView& tensor : file->tensors())
        plan.tensors.push_back(
            {spec_of(tensor), tensor.dtype, std::make_shared<GgufSource>(file, tensor)});
    try {
        plan.config = config_from_gguf(*file);
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

}  // namespace

ConversionPlan make_gguf_plan(const std::filesystem::path& path,
                              const std::optional<OutputType>& type) {
    const auto file = std::make_shared<const ModelFile>(ModelFile::open(path));
    ConversionPlan plan;
    plan.metadata = kept_metadata(*file);
    plan.input_files = file->part_paths();
    if (type)
        plan_requantized(file, *type, plan);
    else
        plan_copied(file, plan);
    return plan;
}

}  // namespace nemo
