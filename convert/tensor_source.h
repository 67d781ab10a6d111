// Finds the checkpoint tensors that make up one tensor of the GGUF file, and reads them as fp32.
//
// Every tensor of the file is, element by element in row-major order, either one checkpoint tensor
// or the concatenation of the per-expert ones; shapes differ only by dropped or split dimensions.
// So a source is a list of equal parts and a function of one value. Q and K rows are not permuted:
// without rotary positions any order within a head gives the same attention.
#pragma once

#include "convert/checkpoint_names.h"
#include "convert/safetensors.h"
#include "convert/weight_source.h"
#include "models/inventory.h"

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

namespace nemo {

class TensorSource final : public WeightSource {
public:
    struct Part {
        SafetensorsView view;
        float scale = 1.0f;  // of an FP8 tensor
    };

    // What happens to each value.
    enum class Transform {
        none,
        negative_exp,  // A_log -> A
    };

    TensorSource(std::vector<Part> parts, Transform transform, std::string source)
        : parts_(std::move(parts)), transform_(transform), source_(std::move(source)) {}

    const std::string& name() const override { return parts_.front().view.name; }
    std::string_view type_name() const override {
        return safetensors_type_name(parts_.front().view.type);
    }
    uint64_t n_bytes() const override;
    void read(int64_t first, int64_t n, float* target) const override;

private:
    void read_part(const Part& part, int64_t first, int64_t n, float* target) const;

    std::vector<Part> parts_;  // all of the same number of elements
    Transform transform_;
    std::string source_;
};

// The tensors of a checkpoint.
class CheckpointTensors {
public:
    // `source` names the checkpoint in errors. `weights` must outlive this object.
    CheckpointTensors(const SafetensorsSet& weights, std::string source)
        : weights_(weights), source_(std::move(source)), names_(weights) {}

    // Throws Error{bad_file} with the checkpoint's tensor name if it is missing, has another shape
    // than the configuration asks for, or a dtype that cannot be read.
    WeightSourcePtr bind(const TensorSpec& spec);

    // After everything was bound: tensors that nobody asked for and that are not known to be
    // dispensable. Throws Error{bad_file} if one is a bias: leaving it out would change the model.
    std::vector<std::string> unused_tensors() const;

private:
    TensorSource::Part bind_part(const std::string& name, const std::vector<int64_t>& shape);
    std::vector<TensorSource::Part> bind_experts(const TensorSpec& spec);
    float fp8_scale(const SafetensorsView& view);

    const SafetensorsSet& weights_;
    std::string source_;
    CheckpointNames names_;
    std::unordered_set<std::string> used_;
};

}  // namespace nemo
