// Carries out a conversion plan: reads, encodes and writes the weights slab by slab, so that memory
// stays bounded whatever the size of the model.
#pragma once

#include "convert/plan.h"
#include "core/resumable_file.h"

#include <cstdint>
#include <filesystem>
#include <functional>

namespace nemo {

struct ConvertProgress {
    uint64_t n_done_bytes = 0;  // of encoded weights
    uint64_t n_total_bytes = 0;
    uint64_t n_kept_bytes = 0;  // of those done, what an earlier run did
};

// Called between slabs, on the calling thread. An exception it throws ends the conversion.
using ProgressCallback = std::function<void(const ConvertProgress&)>;

// Throws Error{usage} if `target` is named like a part of a split file, Error{runtime} if it, or a
// file of a split one, cannot be the result: it exists and `force` is not given, it is not a
// regular file, or it is one of the input's own files.
void check_target(const ConversionPlan& plan, const std::filesystem::path& target, bool force);

// Writes the file, which appears under `target` complete or not at all, or the files that the plan
// divides it into: all are complete on the disk before the first one gets its name, so that only a
// crash among those last renames leaves new files beside old ones of the same names, each whole.
// After a failure or a crash OnRestart says what is left and what the next run does with it.
// `n_threads` 0: one per core. Throws Error{bad_file} if a weight is not finite or does not fit the
// type, or a tensor of a GGUF file is not what its checksum there says.
void write_model(const ConversionPlan& plan, const std::filesystem::path& target, int n_threads,
                 const ProgressCallback& on_progress, OnRestart on_restart = OnRestart::start_over);

}  // namespace nemo
