// What a checkpoint calls the tensors of the GGUF file: a table per architecture, and the prefixes
// that the publishers of checkpoints vary.
#pragma once

#include "convert/safetensors.h"
#include "models/inventory.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nemo {

class CheckpointNames {
public:
    // The name of the embedding table tells which spelling it is.
    explicit CheckpointNames(const SafetensorsSet& weights);

    // Of a tensor of experts: the name under which all are stacked in one tensor.
    std::string of(const TensorSpec& spec) const;
    std::string of_expert(const TensorSpec& spec, int64_t expert) const;

    // LayerNorm1P: the norm is that of weight + 1.
    bool norms_are_weight_plus_one() const { return norms_are_weight_plus_one_; }

    // Whether the language model has a tensor of this name, even one that nobody knows.
    bool is_inside(std::string_view name) const { return name.starts_with(prefix_); }
    // Of the multi-token prediction head.
    bool is_prediction(std::string_view name) const { return name.starts_with(prediction_prefix_); }
    bool has_prediction_head() const { return has_prediction_head_; }

    struct Pair {
        std::string_view gguf;  // without "blk.N."
        std::string_view checkpoint;
    };

private:
    std::span<const Pair> pairs_;
    bool norms_are_weight_plus_one_ = false;
    std::string prefix_;             // "backbone."
    std::string embedding_;          // "backbone.embeddings.weight"
    std::string head_;               // "lm_head.weight"
    std::string prediction_prefix_;  // "mtp."
    bool has_prediction_head_ = false;
};

}  // namespace nemo
