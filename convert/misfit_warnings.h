// Tells which tensors of a plan did not get the format that was asked for.
#pragma once

#include "convert/type_mix.h"
#include "models/inventory.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nemo {

// "a" or "a, b, ...": the first few names.
std::string some_of(const std::vector<std::string>& names);

// Tensors whose rows do not fit the wanted format, one warning per kind.
class MisfitWarnings {
public:
    void add(const TensorSpec& spec, const TensorType& type);
    void append_to(std::vector<std::string>& warnings) const;

private:
    std::map<std::tuple<DType, DType, int64_t>, std::vector<std::string>> names_;
};

}  // namespace nemo
