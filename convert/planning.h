// What planning from a checkpoint and planning from a GGUF file have in common.
#pragma once

#include "convert/plan.h"
#include "convert/type_mix.h"
#include "models/inventory.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nemo {

// Gives a tensor what its mix chose, or leaves it as the input has it if that is asked for: in
// general (AUTO), or in the very 4-bit floats of the type, which a mix might give to other tensors
// only, and which encoding anew would change.
void set_type(PlannedTensor& tensor, const TensorType& chosen, const OutputType& type);

// The metadata that says so: llama.cpp's number of the type; for AUTO that of the format that most
// weights have.
void set_file_type(const OutputType& type, ConversionPlan& plan);
uint32_t dominant_file_type(const ConversionPlan& plan);

// "a" or "a, b, ...": the first few names.
std::string some_of(const std::vector<std::string>& names);

// Tensors whose rows fit no block format and become F16, one warning per kind.
class MisfitWarnings {
public:
    void add(const PlannedTensor& tensor);
    void append_to(std::vector<std::string>& warnings) const;

private:
    std::map<std::pair<DType, int64_t>, std::vector<std::string>> names_;
};

}  // namespace nemo
