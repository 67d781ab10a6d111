// How much an error in a tensor's outputs matters for the model's predictions, by the kind of
// tensor: the KL divergence that a relative squared error of 1 in one such tensor would cause if
// the relation stayed as linear as it is for small errors. Only ratios matter.
#pragma once

#include "models/inventory.h"
#include "quant/importance.h"

#include <span>
#include <vector>

namespace nemo {

// One per tensor of an inventory. Where `importance` (may be nullptr) has a measured value for this
// model's tensor, it counts, and the defaults of the others are scaled to the same level. A value
// that several tensors of a kind have in common is taken as their mean: the defaults say how they
// differ, since the first layers count more.
std::vector<double> sensitivities(std::span<const TensorSpec> specs, const Importance* importance);

}  // namespace nemo
