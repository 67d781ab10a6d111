// Everything a model remembers of one sequence: the recurrent state of its Mamba-2 layers and the
// key-value cache of its attention layers.
//
// Invariant: position() == p means that all of it reflects exactly tokens [0, p). The recurrent
// state of all layers is one contiguous buffer, so that a snapshot is one copy; the key-value cache
// is append-only, so a snapshot of it is its length.
#pragma once

#include "kernels/backend.h"
#include "models/config.h"

#include <cstdint>
#include <vector>

namespace nemo {

class SequenceState {
public:
    SequenceState(const ModelConfig& config, Backend& backend, const KvTypes& kv_types = {});

    int64_t position() const { return position_; }
    // After the model has taken in `n_tokens` more tokens.
    void advance(int64_t n_tokens) { position_ += n_tokens; }
    // Back to the empty sequence.
    void reset();
    // Makes room for `n_positions` tokens in the key-value caches.
    void reserve(int64_t n_positions);

    // Of a Mamba-2 layer: [K-1, conv_dim] inputs before the convolution, oldest first.
    float* conv_state(size_t layer) { return recurrent_.get() + offsets_[layer]; }
    const float* conv_state(size_t layer) const { return recurrent_.get() + offsets_[layer]; }
    // Of a Mamba-2 layer: [H, N, P].
    float* ssm_state(size_t layer) { return conv_state(layer) + conv_sizes_[layer]; }
    const float* ssm_state(size_t layer) const { return conv_state(layer) + conv_sizes_[layer]; }
    // Of an attention layer; rows below position() are valid.
    KvCache keys(size_t layer) const { return keys_[layer].cache(); }
    KvCache values(size_t layer) const { return values_[layer].cache(); }

private:
    struct GrowingCache {
        KvLayout layout;
        FloatBuffer memory;

        KvCache cache() const { return {layout, reinterpret_cast<std::byte*>(memory.get())}; }
    };
    void grow(GrowingCache& cache, int64_t n_positions);

    Backend& backend_;
    int64_t position_ = 0;
    int64_t capacity_ = 0;  // positions the key-value caches have room for
    int64_t n_recurrent_ = 0;
    FloatBuffer recurrent_;
    std::vector<int64_t> offsets_;     // per layer, into recurrent_
    std::vector<int64_t> conv_sizes_;  // per layer
    // Per layer; no heads without attention.
    std::vector<GrowingCache> keys_;
    std::vector<GrowingCache> values_;
};

// Bytes of fp32 recurrent state per sequence, and of key-value cache per token.
int64_t recurrent_state_bytes(const ModelConfig& config);
int64_t kv_bytes_per_token(const ModelConfig& config, const KvTypes& types = {});

}  // namespace nemo
