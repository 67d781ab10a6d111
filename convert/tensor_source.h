// Finds the checkpoint tensors that make up one tensor of the GGUF file, and reads them as fp32.
//
// Every tensor of the file is, element by element in row-major order, either one checkpoint tensor
// or the concatenation of the per-expert ones; shapes differ only by dropped or split dimensions.
// So a source is a list of equal parts and a function of one value. Q and K rows are not permuted:
// without rotary positions any order within a head gives the same attention, and with them the
// file's order is the checkpoint's (half-split).
#pragma once

#include "convert/checkpoint_names.h"
#include "convert/safetensors.h"
#include "convert/stored_tensors.h"
#include "convert/weight_source.h"
#include "models/inventory.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nemo {

class TensorSource final : public WeightSource {
public:
    // What happens to each value.
    enum class Transform {
        none,
        negative_exp,  // A_log -> A
        plus_one,      // the weight of LayerNorm1P -> of LayerNorm
    };

    // `parts` have equally many elements and are at least one; `row_length` is dims[0] of the
    // result.
    TensorSource(std::vector<StoredTensor> parts, Transform transform, int64_t row_length,
                 std::string source)
        : parts_(std::move(parts)),
          transform_(transform),
          row_length_(row_length),
          source_(std::move(source)) {}

    const std::string& name() const override { return parts_.front().weight.name; }
    std::string_view type_name() const override { return parts_.front().type_name(); }
    uint64_t n_bytes() const override;
    std::vector<MappedRange> ranges(int64_t first, int64_t n) const override;
    using WeightSource::read;
    void read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const override;
    std::optional<DType> encoded_type() const override;
    void read_encoded(int64_t first_row, int64_t n_rows, std::byte* target,
                      const LoadedBytes& loaded) const override;
    std::vector<float> factors() const override;

private:
    void read_part(const StoredTensor& part, int64_t first, int64_t n, float* target,
                   const LoadedBytes& loaded) const;
    // visit(part, offset in it, n of it) for what elements [first, first + n) are made of, in
    // order.
    template <class Visit>
    void for_parts(int64_t first, int64_t n, Visit visit) const;

    std::vector<StoredTensor> parts_;
    Transform transform_;
    int64_t row_length_;
    std::string source_;
};

// The tensors of a checkpoint.
class CheckpointTensors {
public:
    // `source` names the checkpoint in errors. `weights` must outlive this object.
    CheckpointTensors(const SafetensorsSet& weights, QuantizationConfig quantization,
                      std::string source)
        : weights_(weights),
          source_(std::move(source)),
          names_(weights),
          stored_(weights, std::move(quantization), source_) {}

    // Throws Error{bad_file} as StoredTensors::find().
    WeightSourcePtr bind(const TensorSpec& spec);

    // After everything was bound: tensors that nobody asked for and that are not known to be
    // dispensable. Throws Error{bad_file} if one is a bias or a scale: leaving it out would change
    // the model.
    // Without `prediction_head` nobody was meant to ask for its tensors.
    std::vector<std::string> unused_tensors(bool prediction_head) const;

private:
    TensorSource::Transform transform_of(const TensorSpec& spec) const;
    std::vector<StoredTensor> find_experts(const TensorSpec& spec);

    const SafetensorsSet& weights_;
    std::string source_;
    CheckpointNames names_;
    StoredTensors stored_;
};

}  // namespace nemo
