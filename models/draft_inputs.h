// What tokens that were only looked at would have done to the recurrent state: the inputs of each
// Mamba-2 layer's convolution and scan. Taking the first of them in repeats these two operations
// and nothing else, so a guess that fails costs no copy of the state.
#pragma once

#include "kernels/backend.h"
#include "models/config.h"

#include <cstdint>
#include <vector>

namespace nemo {

class DraftInputs {
public:
    DraftInputs(const ModelConfig& config, Backend& backend, int64_t n_tokens)
        : max_tokens_(n_tokens) {
        int64_t n_floats = 0;
        for (const LayerConfig& layer : config.layers) {
            offsets_.push_back(n_floats);
            if (layer.kind == LayerKind::mamba2) n_floats += n_tokens * row_size(layer.mamba2);
        }
        memory_ = backend.alloc(n_floats);
    }

    int64_t max_tokens() const { return max_tokens_; }
    // xBC before the convolution and dt of one token, as they lie in in_proj's result.
    static int64_t row_size(const Mamba2Shape& shape) { return shape.conv_dim() + shape.n_heads; }
    // Of a Mamba-2 layer: [max_tokens, row_size].
    float* rows(size_t layer) { return memory_.get() + offsets_[layer]; }
    const float* rows(size_t layer) const { return memory_.get() + offsets_[layer]; }

private:
    int64_t max_tokens_;
    std::vector<int64_t> offsets_;  // per layer
    FloatBuffer memory_;
};

}  // namespace nemo
