// Reads safetensors files by mapping them: one file, or the shards that an index lists.
//
// Format: u64 little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then
// the data; offsets count from the end of the header. Everything is checked in open(): afterwards
// the bytes of every view are in bounds and as many as its shape and dtype say, and the tensors of
// a file cover its data exactly, without gap or overlap. Tensor data has no alignment.
#pragma once

#include "core/mapped_file.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

enum class SafetensorsType {
    boolean,
    u8,
    i8,
    f8_e4m3,
    f8_e5m2,
    f8_e8m0,
    u16,
    i16,
    f16,
    bf16,
    u32,
    i32,
    f32,
    u64,
    i64,
    f64,
};

std::string_view safetensors_type_name(SafetensorsType type);  // "BF16"

struct SafetensorsView {
    const MappedFile* file = nullptr;  // where the bytes are
    std::string name;
    SafetensorsType type = SafetensorsType::f32;
    std::vector<int64_t> shape;  // as in the file, slowest dimension first; empty for a scalar
    std::span<const std::byte> bytes;

    int64_t n_elements() const;
};

// "[4096, 1, 4]".
std::string shape_text(std::span<const int64_t> shape);

class SafetensorsFile {
public:
    // Throws Error{bad_file} naming the file, the tensor and the numbers that disagree.
    static SafetensorsFile open(const std::filesystem::path& path);

    const std::string& path() const { return file_->path(); }
    // In the order of their data.
    const std::vector<SafetensorsView>& tensors() const { return tensors_; }

private:
    std::unique_ptr<const MappedFile> file_;  // stays where it is when this object moves
    std::vector<SafetensorsView> tensors_;
};

// The weights of a Hugging Face checkpoint directory: `model.safetensors`, or the shards listed in
// `model.safetensors.index.json`. Tensor names are unique over all shards.
class SafetensorsSet {
public:
    static SafetensorsSet open(const std::filesystem::path& directory);

    const std::vector<SafetensorsFile>& files() const { return files_; }
    // nullptr if there is none of that name.
    const SafetensorsView* find(std::string_view name) const;

private:
    void add_file(const std::filesystem::path& path);

    struct Location {
        size_t file;
        size_t tensor;
    };
    std::vector<SafetensorsFile> files_;
    std::unordered_map<std::string, Location> index_;
};

}  // namespace nemo
