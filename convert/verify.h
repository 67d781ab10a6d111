// Re-reads a whole GGUF file and says what is wrong with it: the directory against the list of
// tensors that its configuration asks for, the file's end against that of the last tensor, every
// tensor's bytes against the checksums written with them, every weight for being finite, and, where
// the checkpoint is at hand, every weight against its original.
#pragma once

#include "convert/convert.h"
#include "core/model_file.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

struct TensorError {
    std::string name;
    DType dtype = DType::f32;
    double relative_rms = 0;  // ||file - checkpoint|| / ||checkpoint||
};

struct VerifyReport {
    std::vector<std::string> problems;  // one line each; empty: the file is sound
    std::vector<std::string> notes;     // what could not be checked
    std::vector<TensorError> errors;    // only with a checkpoint, in file order
    int64_t n_tensors = 0;
    uint64_t n_bytes = 0;  // of the file
};

// `checkpoint`: the folder the file was converted from; empty: no comparison. `n_threads` 0: one
// per core. Memory stays small whatever the file's size. Throws Error{bad_file} if the checkpoint
// cannot be read; what is wrong with the file itself is in the report. `on_progress` counts the
// file's bytes.
VerifyReport verify_model(const ModelFile& file, const std::filesystem::path& checkpoint,
                          int n_threads, const ProgressCallback& on_progress);

// The errors as a table, then problems, notes and the verdict. Harmless to a terminal.
std::string verify_text(const ModelFile& file, const VerifyReport& report);

}  // namespace nemo
