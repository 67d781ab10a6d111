// The factors of NVFP4 tensors. The scales inside the blocks reach from 2^-9 to 448, far from what
// trained weights need, so every matrix also has an F32 factor, in a tensor of its own beside the
// weights. A checkpoint that stores NVFP4 brings its factors; for any other source they follow from
// the largest weight of the matrix, which takes one more pass over it before it is encoded.
#pragma once

#include "convert/plan.h"

#include <vector>

namespace nemo {

// Whether NVFP4 can be the format of a tensor without changing what it stores: not where no reader
// applies the factors that its source has.
bool can_be_nvfp4(const PlannedTensor& tensor);

// Appends a tensor of the result. If it becomes NVFP4 it then reads its weights divided by their
// factors, and is followed by the tensor of these, unless all are 1.
void append_tensor(PlannedTensor tensor, std::vector<PlannedTensor>& tensors);

}  // namespace nemo
