// Reads GGUF v2/v3 files, split or whole, by mapping them. All checks happen in open(): afterwards
// every TensorView is in bounds, aligned to its element type and made of whole blocks.
#pragma once

#include "core/gguf.h"
#include "core/mapped_file.h"
#include "core/tensor.h"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

// The name of a file of a split model, from 1: "STEM-00001-of-00003.gguf".
std::string split_file_name(const std::string& stem, int64_t number, int64_t count);
// Whether a path ends like one of these: then its model is looked for in all the files.
bool is_split_file_name(const std::string& path);

// Tells models apart without reading their weights: sizes, metadata and tensor directory, and a few
// samples of the weights, for files that carry no checksums of them.
struct ModelFingerprint {
    uint64_t n_file_bytes = 0;
    uint32_t header_crc = 0;
    uint32_t sample_crc = 0;

    bool operator==(const ModelFingerprint&) const = default;
};

class ModelFile {
public:
    // `path` may be any part of a split model (NAME-00001-of-00003.gguf); the others must lie
    // beside it. Throws Error{bad_file} naming file, key or tensor and the numbers that disagree.
    static ModelFile open(const std::filesystem::path& path);

    const std::string& path() const { return path_; }
    const GgufMetadata& metadata() const { return metadata_; }
    const std::vector<TensorView>& tensors() const { return tensors_; }
    const TensorView* find(std::string_view name) const;
    std::vector<std::filesystem::path> part_paths() const;
    // The parts as they are mapped.
    std::vector<std::span<const std::byte>> part_bytes() const;
    // All parts together.
    uint64_t n_file_bytes() const;
    // Of these, what lies behind the last tensor and its padding: nothing says what it is.
    uint64_t n_extra_bytes() const { return n_extra_bytes_; }
    ModelFingerprint fingerprint() const;
    // Bytes of one of the tensors, and the part that they are in.
    MappedRange range_of(std::span<const std::byte> bytes) const;

private:
    ModelFile() = default;
    void append_part(const std::filesystem::path& path);

    std::string path_;
    std::vector<MappedFile> parts_;
    std::vector<size_t> header_sizes_;  // bytes before the tensor data, per part
    uint64_t n_extra_bytes_ = 0;
    GgufMetadata metadata_;
    std::vector<TensorView> tensors_;
    std::unordered_map<std::string, size_t> index_;
};

}  // namespace nemo
