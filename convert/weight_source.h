// Where the weights of one tensor of the result come from: part of a checkpoint, of another GGUF
// file, or something computed. The plan holds one per tensor; the converter reads it slab by slab,
// from several threads at once.
//
// Elements and rows count in the order of the result, row-major. Invariant: an object never changes
// after it was made, and what it points into (mapped files) lives as long as the plan.
#pragma once

#include "core/error.h"
#include "core/loaded_bytes.h"
#include "core/tensor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class WeightSource {
public:
    virtual ~WeightSource() = default;

    // Of the input's (first) tensor, for messages and the plan.
    virtual const std::string& name() const = 0;
    // How the input stores it: "BF16", "Q8_0".
    virtual std::string_view type_name() const = 0;
    // In the input, over all its tensors.
    virtual uint64_t n_bytes() const = 0;

    // Where in the input's files elements [first, first + n) are, less what is small beside them:
    // to be loaded before they are read.
    virtual std::vector<MappedRange> ranges(int64_t /*first*/, int64_t /*n*/) const { return {}; }

    // What the input says the CRC-32C of all ranges() is; nullopt: nothing.
    virtual std::optional<uint32_t> checksum() const { return std::nullopt; }

    // `n` values from element `first` on, which must exist; from memory what has been loaded.
    // Throws Error{bad_file} naming the input's tensor and the element if a value is not finite.
    virtual void read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const = 0;
    void read(int64_t first, int64_t n, float* target) const { read(first, n, target, {}); }

    // The format in which read_encoded() gives the rows without loss; nullopt: only read() works.
    virtual std::optional<DType> encoded_type() const { return std::nullopt; }
    // Rows [first_row, first_row + n_rows) in encoded_type(). Throws Error{bad_file} as read() does
    // where the input's form makes a check necessary.
    virtual void read_encoded(int64_t /*first_row*/, int64_t /*n_rows*/, std::byte* /*target*/,
                              const LoadedBytes& /*loaded*/) const {
        NEMO_ASSERT(encoded_type().has_value());
    }
    // Of rows in NVFP4: what the values of each matrix (dims[2]) of read_encoded() have yet to be
    // multiplied with; empty: nothing.
    virtual std::vector<float> factors() const { return {}; }

protected:
    WeightSource() = default;
    WeightSource(const WeightSource&) = default;
    WeightSource& operator=(const WeightSource&) = default;
};

using WeightSourcePtr = std::shared_ptr<const WeightSource>;

}  // namespace nemo
