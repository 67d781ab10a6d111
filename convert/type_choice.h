// Chooses number formats by measured error (convert/error_table.h) where a mix cannot: for a file
// of a given size, and for rows that are no whole blocks of what the mix asks for.
//
// Both are the same problem: formats per tensor of least predicted damage,
//   sum over tensors of sensitivity * relative weighted error,
// within a number of bytes (convert/budget.h). For rows that do not fit, these bytes are what the
// mix would have taken if they did, so that a file named Q4_K_M has the size of a Q4_K_M.
#pragma once

#include "convert/error_table.h"
#include "convert/plan.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

struct TypeOverride {
    std::string name;  // a tensor, "blk.3.attn_v.weight", or a class of them, "attn_v"
    DType dtype;
};

struct TypeRequest {
    // At most one of these two; none: the plan's types where they fit.
    std::optional<uint64_t> n_file_bytes;   // of the whole file, at most
    std::optional<double> bits_per_weight;  // 8 * tensor bytes / parameters, at most
    std::vector<TypeOverride> overrides;    // come first
    int n_threads = 0;
};

// Sets the plan's types, and adds to its notes what was decided. Throws Error{usage} if the size is
// impossible or an override names no tensor or does not fit its rows.
void choose_measured_types(ConversionPlan& plan, const TypeRequest& request,
                           const MeasureProgress& on_progress);

}  // namespace nemo
