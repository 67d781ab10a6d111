// The tensors of a GGUF file as sources of another: their blocks copied, or decoded.
#pragma once

#include "convert/weight_source.h"
#include "core/model_file.h"
#include "models/inventory.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace nemo {

// The factors of an NVFP4 tensor, one per matrix, which lie in a tensor of their own; nullptr if
// the tensor has none, or none that fit.
const TensorView* find_factors(const TensorView& tensor, const ModelFile& file);

// These factors, [n_matrices]; empty: none.
std::vector<float> read_factors(const TensorView& tensor, const ModelFile& file);
// Multiplies the values of a tensor from element `first` on with their matrices' factors.
void apply_factors(std::span<const float> factors, const TensorView& tensor, int64_t first,
                   std::span<float> values);

// Some converters store Q, K and V as the rows of one tensor: its name, of the spec of one of them;
// empty for any other.
std::string fused_name(const TensorSpec& spec);

class GgufSource final : public WeightSource {
public:
    // `tensor` is one of the file's, `checksum` what the file says of its bytes.
    GgufSource(std::shared_ptr<const ModelFile> file, const TensorView& tensor,
               std::optional<uint32_t> checksum);

    const std::string& name() const override { return tensor_.name; }
    std::string_view type_name() const override { return dtype_info(tensor_.dtype).name; }
    uint64_t n_bytes() const override { return static_cast<uint64_t>(tensor_.n_bytes()); }
    std::vector<MappedRange> ranges(int64_t first, int64_t n) const override;
    std::optional<uint32_t> checksum() const override { return checksum_; }
    // With the factors of NVFP4 applied.
    using WeightSource::read;
    void read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const override;
    std::optional<DType> encoded_type() const override { return tensor_.dtype; }
    void read_encoded(int64_t first_row, int64_t n_rows, std::byte* target,
                      const LoadedBytes& loaded) const override;
    std::vector<float> factors() const override { return factors_; }

private:
    // The blocks that hold elements [first, first + n).
    std::span<const std::byte> blocks(int64_t first, int64_t n) const;
    void decode(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const;

    std::shared_ptr<const ModelFile> file_;
    TensorView tensor_;
    std::optional<uint32_t> checksum_;
    std::vector<float> factors_;  // empty: none
};

}  // namespace nemo
