// How much an error in a tensor's outputs matters for the model's predictions, by the kind of
// tensor: the KL divergence that a relative squared error of 1 in one such tensor would cause if
// the relation stayed as linear as it is for small errors. Only ratios matter.
#pragma once

#include "models/inventory.h"
#include "quant/importance.h"

#include <span>
#include <string_view>
#include <vector>

namespace nemo {

// "ssm_in" of "blk.7.ssm_in.weight", "output" of "output.weight".
std::string_view tensor_class(std::string_view tensor_name);

// One per tensor of an inventory. Where `importance` (may be nullptr) has a measured value for this
// model's tensor, it counts; if it has for some tensors, the defaults of the others are scaled to
// the same level.
std::vector<double> sensitivities(std::span<const TensorSpec> specs, const Importance* importance);

}  // namespace nemo
