// Everything a model remembers of one sequence: the recurrent state of its Mamba-2 layers and the
// key-value cache of its attention layers.
//
// Invariant: position() == p means that all of it reflects exactly tokens [0, p). The recurrent
// state of all layers is one contiguous buffer, so that a snapshot is one copy; the caches are
// pages that a snapshot shares (models/kv_pages.h).
#pragma once

#include "kernels/backend.h"
#include "models/config.h"
#include "models/kv_pages.h"
#include "models/recurrent_buffers.h"

#include <cstdint>
#include <vector>

namespace nemo {

// The recurrent state of all layers after the first `n_tokens` of a chunk is copied to `recurrent`
// while the model takes the chunk in.
struct StateCapture {
    int64_t n_tokens;
    float* recurrent;
};

// What it takes to go on from a position.
struct StateSnapshot {
    int64_t position = 0;
    FloatBuffer recurrent;
    KvPages pages;  // that hold [0, position)
};

class SequenceState {
public:
    SequenceState(const ModelConfig& config, Backend& backend, const KvTypes& kv_types = {});
    SequenceState(const SequenceState&) = delete;
    SequenceState& operator=(const SequenceState&) = delete;

    int64_t position() const { return position_; }
    // After the model has taken in `n_tokens` more tokens.
    void advance(int64_t n_tokens) { position_ += n_tokens; }
    // Back to the empty sequence. Always possible: it is the way out when memory has run out.
    void reset() noexcept;
    // Makes room for `n_positions` tokens in the key-value caches. For as many as there are: what
    // would be copied then because others share it is copied now.
    void reserve(int64_t n_positions);

    // Shares the pages and leaves out the recurrent state, which somebody captured.
    StateSnapshot pages_at(int64_t position) const;
    StateSnapshot snapshot() const;
    // As snapshot(), without a copy: leaves the empty sequence.
    StateSnapshot take();
    // A copy of another state.
    StateSnapshot copy(const StateSnapshot& snapshot) const;
    void become(StateSnapshot snapshot);
    // Lets the recurrent state go, and gets it back, at the same position.
    bool has_recurrent() const { return recurrent_ != nullptr; }
    void drop_recurrent() noexcept { recurrent_ = {}; }
    void set_recurrent(FloatBuffer recurrent) noexcept { recurrent_ = std::move(recurrent); }
    // Back to an earlier position; only for models without recurrent layers.
    void cut(int64_t position);

    std::shared_ptr<KvPage> new_page() const { return new_kv_page(page_layout_, backend_); }
    // Contents undefined.
    FloatBuffer new_recurrent() const { return buffers_.get(); }
    // Memory for states to come.
    RecurrentBuffers& buffers() { return buffers_; }
    const RecurrentBuffers& buffers() const { return buffers_; }
    const float* recurrent() const { return recurrent_.get(); }
    // Floats of recurrent state, all layers; 0: any position can be cut to.
    int64_t n_recurrent() const { return n_recurrent_; }
    int64_t recurrent_bytes() const { return n_recurrent_ * static_cast<int64_t>(sizeof(float)); }
    // Where the layer's part of the recurrent state starts.
    int64_t recurrent_offset(size_t layer) const { return offsets_[layer]; }
    const KvPages& pages() const { return pages_.pages(); }
    const KvPageLayout& page_layout() const { return page_layout_; }

    // Of a Mamba-2 layer: [K-1, conv_dim] inputs before the convolution, oldest first.
    float* conv_state(size_t layer) { return recurrent_.get() + offsets_[layer]; }
    const float* conv_state(size_t layer) const { return recurrent_.get() + offsets_[layer]; }
    // Of a Mamba-2 layer, right behind its conv_state: [H, N, P].
    float* ssm_state(size_t layer) { return conv_state(layer) + conv_sizes_[layer]; }
    const float* ssm_state(size_t layer) const { return conv_state(layer) + conv_sizes_[layer]; }
    // Of an attention layer; rows below position() are valid.
    KvCache keys(size_t layer) const { return cache(page_layout_.keys(layer)); }
    KvCache values(size_t layer) const { return cache(page_layout_.values(layer)); }

private:
    KvCache cache(const KvPageLayout::Part& part) const {
        return {part.layout, pages_.data(), part.offset};
    }

    Backend& backend_;
    int64_t position_ = 0;
    int64_t n_recurrent_ = 0;
    RecurrentBuffers buffers_;
    FloatBuffer recurrent_;            // null: none yet, or let go
    std::vector<int64_t> offsets_;     // per layer, into recurrent_
    std::vector<int64_t> conv_sizes_;  // per layer
    KvPageLayout page_layout_;
    KvPageTable pages_;
};

// Bytes of fp32 recurrent state per sequence, and of key-value cache per token.
int64_t recurrent_state_bytes(const ModelConfig& config);
int64_t kv_bytes_per_token(const ModelConfig& config, const KvTypes& types = {});

}  // namespace nemo
