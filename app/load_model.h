// Opening a model file for use: what the programs do about reading it from the disk.
#pragma once

#include "core/model_file.h"

#include <filesystem>
#include <memory>

namespace nemo {

struct LoadOptions {
    bool preload = false;  // read all of it before returning
    bool lock = false;     // the same, and keep it in memory
};

// Weights are used where the file is mapped, and nothing of them is looked at here: without options
// the file is read in the background while the first tokens already run. Reading it before shows
// its progress on a terminal. Throws Error{bad_file}, Error{out_of_memory} if it cannot be locked,
// Error{interrupted}.
std::shared_ptr<const ModelFile> load_model_file(const std::filesystem::path& path,
                                                 const LoadOptions& options);

}  // namespace nemo
