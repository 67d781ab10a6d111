#include "convert/planning.h"

#include "convert/nvfp4_scale.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

namespace nemo {

namespace {

// How the input has the tensor, if a file can have it so.
std::optional<DType> stored_type(const PlannedTensor& tensor) {
    const std::optional<DType> encoded = tensor.source->encoded_type();
    if (encoded) return *encoded == DType::nvfp4 && !can_be_nvfp4(tensor) ? std::nullopt : encoded;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
        if (tensor.source->type_name() == dtype_info(dtype).name) return dtype;
    return std::nullopt;
}

// The form of the input in which a tensor stays; nullopt: the type's choice counts.
std::optional<DType> kept_type(const PlannedTensor& tensor, const OutputType& type) {
    if (tensor.spec.always_f32) return std::nullopt;
    const std::optional<DType> stored = stored_type(tensor);
    const bool is_asked_for =
        stored == type.base && (type.base == DType::mxfp4 || type.base == DType::nvfp4);
    return type.rule == TypeRule::stored || is_asked_for ? stored : std::nullopt;
}

}  // namespace

void set_type(PlannedTensor& tensor, const TensorType& chosen, const OutputType& type) {
    const std::optional<DType> kept = kept_type(tensor, type);
    tensor.dtype = kept.value_or(chosen.dtype);
    if (!kept && chosen.wanted != chosen.dtype) tensor.wanted = chosen.wanted;
}

uint32_t dominant_file_type(const ConversionPlan& plan) {
    std::map<DType, int64_t> counts;
    for (const PlannedTensor& tensor : plan.tensors)
        if (is_encoded(tensor.spec)) counts[tensor.dtype] += tensor.spec.n_elements();
    const auto most = std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; });
    return most == counts.end() ? 0 : uniform_output_type(most->first).file_type;
}

void set_file_type(const OutputType& type, ConversionPlan& plan) {
    const bool is_open = type.rule == TypeRule::stored;
    plan.metadata.set_u32("general.file_type", is_open ? dominant_file_type(plan) : type.file_type);
    plan.metadata.set_u32("general.quantization_version", 2);
}

std::string some_of(const std::vector<std::string>& names) {
    constexpr size_t kMaxNamed = 10;
    std::string text;
    const size_t n_named = std::min(names.size(), kMaxNamed);
    for (size_t i = 0; i < n_named; ++i) text += (i ? ", " : "") + names[i];
    return n_named < names.size() ? text + ", ..." : text;
}

void MisfitWarnings::add(const PlannedTensor& tensor) {
    if (tensor.wanted && tensor.dtype == DType::f16)
        names_[{*tensor.wanted, tensor.spec.dims[0]}].push_back(tensor.spec.name);
}

void MisfitWarnings::append_to(std::vector<std::string>& warnings) const {
    for (const auto& [kind, names] : names_) {
        const auto& [wanted, row_length] = kind;
        const std::string subject = names.size() == 1
                                        ? names[0] + " becomes"
                                        : fmt::format("{} tensors become", names.size());
        const std::string list = names.size() == 1 ? "" : ": " + some_of(names);
        warnings.push_back(fmt::format("{} F16: rows of {} are no whole blocks of {}{}", subject,
                                       row_length, dtype_info(wanted).name, list));
    }
}

}  // namespace nemo
