// Finds a model's tensors in a file, checks them against the inventory and hands them to the
// backend.
#pragma once

#include "core/model_file.h"
#include "models/config.h"
#include "models/inventory.h"
#include "models/layers.h"

#include <string>
#include <unordered_map>

namespace nemo {

// Tensors to be used instead of a file's, by name.
using TensorReplacements = std::unordered_map<std::string, TensorView>;

// The file, the configuration and the replacements must outlive it.
class WeightBinder {
public:
    WeightBinder(const ModelFile& file, const ModelConfig& config, Backend& backend,
                 const TensorReplacements& replacements);

    // A tensor of the inventory. Throws Error{bad_file} if it is missing, has other dims, or is
    // quantized where only F32 is possible.
    Weight take(const std::string& name);
    // `name` without suffix.
    NormWeights take_norm(const std::string& name);
    LayerWeights take_layer(size_t layer);

private:
    Weight take_in_layer(size_t layer, const char* suffix);
    Linear take_linear(size_t layer, const char* stem);
    AttentionWeights take_attention(size_t layer, const AttentionShape& shape);
    MoeWeights take_moe(size_t layer, const MoeShape& shape);
    // The factor that belongs to an NVFP4 tensor; nullptr if there is none.
    const TensorView* find_scale(const TensorView& tensor) const;
    // `name` as it is in the file, or an absent Weight; dims[0] must be n if it is there.
    Weight take_optional_bias(const std::string& name, int64_t n);

    const ModelFile& file_;
    const ModelConfig& config_;
    Backend& backend_;
    const TensorReplacements& replacements_;
    std::unordered_map<std::string, TensorSpec> specs_;
};

}  // namespace nemo
