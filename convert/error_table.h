// How much each number format would damage each tensor, measured on a sample of its rows with the
// encoders that write the file.
//
// The measure is RelativeError of quant/importance.h: of the tensor's outputs, the part of their
// energy that is error. It compares across tensors and formats. A format in which the source
// already is has none.
#pragma once

#include "convert/plan.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace nemo {

// One tensor and the formats to try; its rows are whole blocks of each.
struct MeasuredTensor {
    const PlannedTensor* tensor;
    std::vector<DType> candidates;
};

// Called between tensors on the calling thread; an exception it throws ends the measurement.
using MeasureProgress = std::function<void(size_t n_done, size_t n_total)>;

// [tensor][candidate]. Rows are spread evenly over the tensor, and over its experts; the result
// does not depend on the number of threads (0: one per core). Memory: a row and its codes per
// thread. Throws Error{bad_file} as reading does.
std::vector<std::vector<double>> measure_errors(std::span<const MeasuredTensor> tensors,
                                                int n_threads, const MeasureProgress& on_progress);

}  // namespace nemo
