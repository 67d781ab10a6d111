#include "models/sequence_state.h"

#include "core/error.h"

#include <utility>

namespace nemo {

SequenceState::SequenceState(const ModelConfig& config, Backend& backend, const KvTypes& kv_types)
    : backend_(backend),
      n_recurrent_(recurrent_state_bytes(config) / static_cast<int64_t>(sizeof(float))),
      buffers_(backend, n_recurrent_),
      page_layout_(config, kv_types),
      pages_(page_layout_, backend) {
    int64_t offset = 0;
    for (const LayerConfig& layer : config.layers) {
        offsets_.push_back(offset);
        conv_sizes_.push_back(0);
        if (layer.kind != LayerKind::mamba2) continue;
        conv_sizes_.back() = layer.mamba2.conv_state_size();
        offset += layer.mamba2.conv_state_size() + layer.mamba2.ssm_state_size();
    }
}

// reserve() clears what is left of the recurrent state.
void SequenceState::reset() noexcept {
    pages_.clear();
    position_ = 0;
}

void SequenceState::reserve(int64_t n_positions) {
    // Even where it is zero already: a scan that reads and then writes fresh memory faults on every
    // page twice and interrupts the other cores each time.
    if (position_ == 0) {
        if (recurrent_ == nullptr) recurrent_ = new_recurrent();
        backend_.clear(recurrent_.get(), n_recurrent_);
    }
    if (page_layout_.token_bytes() > 0) pages_.make_writable(position_, n_positions);
}

StateSnapshot SequenceState::pages_at(int64_t position) const {
    const auto n_pages = static_cast<std::ptrdiff_t>(page_layout_.n_pages(position));
    NEMO_ASSERT(position <= position_ && n_pages <= std::ssize(pages_.pages()));
    return {position, {}, {pages_.pages().begin(), pages_.pages().begin() + n_pages}};
}

StateSnapshot SequenceState::snapshot() const {
    StateSnapshot snapshot = pages_at(position_);
    snapshot.recurrent = new_recurrent();
    backend_.copy(recurrent_.get(), n_recurrent_, snapshot.recurrent.get());
    return snapshot;
}

StateSnapshot SequenceState::take() {
    StateSnapshot snapshot = pages_at(position_);
    snapshot.recurrent = std::move(recurrent_);
    reset();
    return snapshot;
}

StateSnapshot SequenceState::copy(const StateSnapshot& snapshot) const {
    StateSnapshot copied = {snapshot.position, new_recurrent(), snapshot.pages};
    backend_.copy(snapshot.recurrent.get(), n_recurrent_, copied.recurrent.get());
    return copied;
}

void SequenceState::become(StateSnapshot snapshot) {
    recurrent_ = std::move(snapshot.recurrent);
    pages_.assign(std::move(snapshot.pages));
    position_ = snapshot.position;
}

void SequenceState::cut(int64_t position) {
    NEMO_ASSERT(n_recurrent_ == 0);
    pages_.assign(pages_at(position).pages);
    position_ = position;
}

int64_t recurrent_state_bytes(const ModelConfig& config) {
    int64_t n_floats = 0;
    for (const LayerConfig& layer : config.layers)
        if (layer.kind == LayerKind::mamba2)
            n_floats += layer.mamba2.conv_state_size() + layer.mamba2.ssm_state_size();
    return n_floats * static_cast<int64_t>(sizeof(float));
}

int64_t kv_bytes_per_token(const ModelConfig& config, const KvTypes& types) {
    return KvPageLayout(config, types).token_bytes();
}

}  // namespace nemo
