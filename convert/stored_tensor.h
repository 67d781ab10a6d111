// One tensor of a checkpoint with the scales that its quantizer stored beside it: its values, and
// for 4-bit floats its rows as the blocks of a GGUF file, bit for bit.
//
// Every quantized form is value = code * scale of the tile * factor of the matrix. A tile is a
// rectangle of tile_rows x tile_columns; the last ones of a matrix may be cut off.
//   form   code        tile                                  scale               factor
//   fp8    E4M3, E5M2  the matrix, a row, or any rectangle   F32 F16 BF16 E8M0   1
//   nvfp4  E2M1        1 x 16                                E4M3                F32
//   mxfp4  E2M1        1 x 32                                E8M0                1
// E2M1 codes lie two to a byte, the even column in the low half. Code times scale is exact in fp32
// for nvfp4 and mxfp4.
#pragma once

#include "convert/safetensors.h"
#include "core/loaded_bytes.h"
#include "core/tensor.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

enum class StoredForm { plain, fp8, nvfp4, mxfp4 };

std::string_view stored_form_name(StoredForm form);  // "FP8"

struct StoredTensor {
    StoredForm form = StoredForm::plain;
    SafetensorsView weight;  // F32, F16, BF16; F8_E4M3, F8_E5M2; pairs of E2M1
    int64_t n_elements = 0;

    // The rest is for quantized forms. A tensor of several matrices (experts) has all its rows
    // and tiles one matrix after the other.
    SafetensorsView scales;
    bool has_exponent_scales = false;  // bytes that are E8M0
    int64_t n_rows = 0;                // of one matrix
    int64_t n_columns = 0;
    int64_t tile_rows = 0;
    int64_t tile_columns = 0;
    bool shares_scales = false;  // all matrices have the tiles of the first
    std::vector<float> factors;  // nvfp4: one per matrix, finite; otherwise empty

    // "BF16", "F8_E4M3", "NVFP4".
    std::string_view type_name() const;
    uint64_t n_bytes() const { return weight.bytes.size() + scales.bytes.size(); }

    // What `weight` has of elements [first, first + n).
    std::span<const std::byte> weight_bytes(int64_t first, int64_t n) const;

    // `n` values from element `first` on.
    void read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const;
    // If the scale of this element is not finite: Error{bad_file} naming it. `source` is the
    // checkpoint.
    void check_scale(int64_t element, const std::string& source) const;

    // NVFP4 or MXFP4 if repack() can give the rows as such blocks.
    std::optional<DType> block_type() const;
    // Rows [first, first + n) over all matrices as blocks of block_type(), without the factors.
    // Throws Error{bad_file} for a scale that is not finite, and a block whose largest code would
    // not be.
    void repack(int64_t first, int64_t n, std::byte* target, const std::string& source,
                const LoadedBytes& loaded) const;

private:
    int64_t n_element_bits() const;  // of the weight
    int64_t scale_index(int64_t element) const;
    float scale_at(int64_t index) const;
    void decode_codes(const std::byte* codes, int64_t first, int64_t n, float* target) const;
    void repack_row(const std::byte* codes, int64_t row, std::byte* target,
                    const std::string& source) const;
};

}  // namespace nemo
