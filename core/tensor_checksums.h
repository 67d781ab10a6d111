// The checksums of a GGUF file's tensors, which our files carry in their metadata.
#pragma once

#include "core/gguf.h"
#include "core/tensor.h"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

namespace nemo {

// An array of strings, one per tensor: "1a2b3c4d Q8_0 blk.0.ssm_in.weight", the CRC-32C
// (core/crc32c.h) of the tensor's bytes in hexadecimal, the type they are in, and the name. Type
// and name tell damage from another program's work: those that requantize, reorder or split a file
// copy the key as it is. Programs that do not know it pass over it.
inline constexpr const char* kTensorChecksumsKey = "nemo.tensor_checksums";

std::string tensor_checksum_entry(uint32_t checksum, DType dtype, const std::string& name);

class TensorChecksums {
public:
    // None if the file has no such key. Throws Error{bad_file} naming an entry that is no checksum.
    explicit TensorChecksums(const GgufMetadata& metadata);

    struct Entry {
        std::string type_name;
        uint32_t value = 0;
    };
    // nullptr: there is none.
    const Entry* find(const std::string& tensor) const;
    // nullopt: there is none, or one of another type.
    std::optional<uint32_t> of(const TensorView& tensor) const;

private:
    std::unordered_map<std::string, Entry> entries_;  // by tensor name
};

}  // namespace nemo
