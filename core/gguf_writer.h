// Writes a GGUF v3 file in one pass: metadata, tensor directory, then tensor data in directory
// order.
//
// Each file carries checksums of its tensors (core/tensor_checksums.h), which are known only when
// the data has passed by: the header is written last, before the file becomes visible.
#pragma once

#include "core/gguf.h"
#include "core/resumable_file.h"
#include "core/tensor.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace nemo {

struct GgufTensorInfo {
    std::string name;  // at most 63 bytes
    DType dtype = DType::f32;
    std::array<int64_t, 4> dims = {1, 1, 1, 1};  // GGUF order, rows are whole blocks
    int n_dims = 1;

    uint64_t n_bytes() const;
    uint64_t n_row_bytes() const;
};

class GgufWriter {
public:
    // Nothing is visible at `target` before finish(). Checksums that the metadata may have, of the
    // file it came from, are replaced.
    GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
               std::vector<GgufTensorInfo> tensors);
    // With OnRestart::resume, what an earlier run of the same metadata, tensors and
    // `input_identity` (of all that decides the tensors' bytes) wrote is read, checked and not to
    // be written again.
    GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
               std::vector<GgufTensorInfo> tensors, OnRestart on_restart, uint64_t input_identity);

    // Where to begin: the tensor, tensors().size() if all are complete, and the row of it.
    size_t next_tensor() const { return current_; }
    int64_t next_row() const;

    // The next bytes of tensor data; tensors follow each other in directory order, in any pieces
    // that do not cross a tensor's end. Padding is added here.
    void write(std::span<const std::byte> bytes);

    // All data must have been written. Adds the checksums, fsync and rename.
    void finish();
    // The same in steps, for a set of files that are to appear together: complete() each, then
    // publish_all().
    void complete();
    static void publish_all(std::span<const std::unique_ptr<GgufWriter>> writers);

    // The size the finished file will have.
    uint64_t n_file_bytes() const { return layout_.n_file_bytes; }

private:
    void resume();
    void add(std::span<const std::byte> bytes);

    GgufMetadata metadata_;
    std::vector<GgufTensorInfo> tensors_;
    std::vector<uint32_t> checksums_;  // of the tensors
    ResumableFile::Layout layout_;
    ResumableFile file_;
    size_t current_ = 0;            // tensor being written
    uint64_t n_current_bytes_ = 0;  // of it, written so far
};

// The exact size of the file that GgufWriter will produce.
uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors);

}  // namespace nemo
