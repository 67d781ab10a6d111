#include "models/sequence_state.h"

#include <algorithm>

namespace nemo {

SequenceState::SequenceState(const ModelConfig& config, Backend& backend) : backend_(backend) {
    for (const LayerConfig& layer : config.layers) {
        offsets_.push_back(n_recurrent_);
        conv_sizes_.push_back(0);
        kv_dims_.push_back(0);
        if (layer.kind == LayerKind::mamba2) {
            conv_sizes_.back() = layer.mamba2.conv_state_size();
            n_recurrent_ += layer.mamba2.conv_state_size() + layer.mamba2.ssm_state_size();
        } else if (layer.kind == LayerKind::attention) {
            kv_dims_.back() = layer.attention.kv_dim();
        }
    }
    recurrent_ = backend_.alloc(n_recurrent_);
    keys_.resize(config.layers.size());
    values_.resize(config.layers.size());
}

void SequenceState::reset() {
    recurrent_ = backend_.alloc(n_recurrent_);
    position_ = 0;
}

void SequenceState::reserve(int64_t n_positions) {
    if (n_positions <= capacity_) return;
    constexpr int64_t kMinCapacity = 256;
    const int64_t capacity = std::max({n_positions, 2 * capacity_, kMinCapacity});
    const auto grow = [&](FloatBuffer& buffer, int64_t kv_dim) {
        FloatBuffer larger = backend_.alloc(capacity * kv_dim);
        if (position_ > 0) backend_.copy(buffer.get(), position_ * kv_dim, larger.get());
        buffer = std::move(larger);
    };
    for (size_t i = 0; i < kv_dims_.size(); ++i) {
        if (kv_dims_[i] == 0) continue;
        grow(keys_[i], kv_dims_[i]);
        grow(values_[i], kv_dims_[i]);
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

int64_t kv_bytes_per_token(const ModelConfig& config) {
    int64_t n_floats = 0;
    for (const LayerConfig& layer : config.layers)
        if (layer.kind == LayerKind::attention) n_floats += 2 * layer.attention.kv_dim();
    return n_floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace nemo
