#include "convert/planning.h"

#include "convert/nvfp4_scale.h"

#include <fmt/core.h>

#include <algorithm>

namespace nemo {

bool keeps_stored(const PlannedTensor& tensor, const OutputType& type) {
    if (tensor.spec.always_f32 || tensor.source->encoded_type() != type.base) return false;
    return type.base == DType::mxfp4 || (type.base == DType::nvfp4 && can_be_nvfp4(tensor));
}

void set_type(PlannedTensor& tensor, const TensorType& chosen, const OutputType& type) {
    const bool stays = keeps_stored(tensor, type);
    tensor.dtype = stays ? type.base : chosen.dtype;
    if (!stays && chosen.wanted != chosen.dtype) tensor.wanted = chosen.wanted;
}

std::string some_of(const std::vector<std::string>& names) {
    constexpr size_t kMaxNamed = 10;
    std::string text;
    const size_t n_named = std::min(names.size(), kMaxNamed);
    for (size_t i = 0; i < n_named; ++i) text += (i ? ", " : "") + names[i];
    return n_named < names.size() ? text + ", ..." : text;
}

void MisfitWarnings::add(const TensorSpec& spec, const TensorType& type) {
    if (type.wanted != type.dtype && type.dtype == DType::f16)
        names_[{type.wanted, type.dtype, spec.dims[0]}].push_back(spec.name);
}

void MisfitWarnings::append_to(std::vector<std::string>& warnings) const {
    for (const auto& [kind, names] : names_) {
        const auto& [wanted, dtype, row_length] = kind;
        const std::string subject = names.size() == 1
                                        ? names[0] + " becomes"
                                        : fmt::format("{} tensors become", names.size());
        const std::string list = names.size() == 1 ? "" : ": " + some_of(names);
        warnings.push_back(fmt::format("{} {}: rows of {} are no whole blocks of {}{}", subject,
                                       dtype_info(dtype).name, row_length, dtype_info(wanted).name,
                                       list));
    }
}

}  // namespace nemo
