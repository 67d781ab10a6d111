#include "models/sequence_state.h"

#include <algorithm>
#include <utility>

namespace nemo {

namespace {

KvLayout kv_layout(const AttentionShape& shape, DType type) {
    return {.type = type, .n_heads = shape.n_kv_heads, .head_dim = shape.head_dim};
}

}  // namespace

SequenceState::SequenceState(const ModelConfig& config, Backend& backend, const KvTypes& kv_types)
    : backend_(backend) {
    for (const LayerConfig& layer : config.layers) {
        offsets_.push_back(n_recurrent_);
        conv_sizes_.push_back(0);
        keys_.emplace_back();
        values_.emplace_back();
        if (layer.kind == LayerKind::mamba2) {
            conv_sizes_.back() = layer.mamba2.conv_state_size();
            n_recurrent_ += layer.mamba2.conv_state_size() + layer.mamba2.ssm_state_size();
        } else if (layer.kind == LayerKind::attention) {
            keys_.back().layout = kv_layout(layer.attention, kv_types.keys);
            values_.back().layout = kv_layout(layer.attention, kv_types.values);
        }
    }
    recurrent_ = backend_.alloc(n_recurrent_);
}

void SequenceState::reset() {
    recurrent_ = backend_.alloc(n_recurrent_);
    position_ = 0;
}

void SequenceState::grow(GrowingCache& cache, int64_t n_positions) {
    // Whole pages in the same places: what was written is the start of the larger cache.
    const auto n_floats = [&](int64_t n_rows) {
        return cache.layout.cache_bytes(n_rows) / static_cast<int64_t>(sizeof(float));
    };
    FloatBuffer larger = backend_.alloc(n_floats(n_positions));
    if (position_ > 0) backend_.copy(cache.memory.get(), n_floats(position_), larger.get());
    cache.memory = std::move(larger);
}

void SequenceState::reserve(int64_t n_positions) {
    if (n_positions <= capacity_) return;
    const int64_t capacity = std::max({n_positions, 2 * capacity_, kKvPageRows});
    for (size_t i = 0; i < keys_.size(); ++i) {
        if (keys_[i].layout.n_heads == 0) continue;
        grow(keys_[i], capacity);
        grow(values_[i], capacity);
    }
    capacity_ = capacity;
}

int64_t recurrent_state_bytes(const ModelConfig& config) {
    int64_t n_floats = 0;
    for (const LayerConfig& layer : config.layers)
        if (layer.kind == LayerKind::mamba2)
            n_floats += layer.mamba2.conv_state_size() + layer.mamba2.ssm_state_size();
    return n_floats * static_cast<int64_t>(sizeof(float));
}

int64_t kv_bytes_per_token(const ModelConfig& config, const KvTypes& types) {
    int64_t n_bytes = 0;
    for (const LayerConfig& layer : config.layers)
        if (layer.kind == LayerKind::attention)
            n_bytes += kv_layout(layer.attention, types.keys).token_bytes() +
                       kv_layout(layer.attention, types.values).token_bytes();
    return n_bytes;
}

}  // namespace nemo
