// Writes a GGUF v3 file in one pass: metadata, tensor directory, then tensor data in directory order.
#pragma once

#include "core/atomic_file.h"
#include "core/gguf.h"
#include "core/tensor.h"

#include <cstdint>
#include <filesystem>
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
};

class GgufWriter {
public:
    // Writes everything but the tensor data. Nothing is visible at `target` before finish().
    GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
               std::vector<GgufTensorInfo> tensors);

    // The next bytes of tensor data; tensors follow each other in directory order, in any pieces that
    // do not cross a tensor's end. Padding is added here.
    void write(std::span<const std::byte> bytes);

    // All data must have been written. fsync and rename.
    void finish();

    // The size the finished file will have.
    uint64_t n_file_bytes() const { return n_file_bytes_; }

private:
    void pad();

    AtomicFile file_;
    std::vector<GgufTensorInfo> tensors_;
    size_t current_ = 0;           // tensor being written
    uint64_t n_current_bytes_ = 0;  // of it, written so far
    uint64_t n_file_bytes_ = 0;
};

// The exact size of the file that GgufWriter will produce.
uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors);

}  // namespace nemo
