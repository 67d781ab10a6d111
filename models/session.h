// One conversation with a model: its tokens and the state they led to.
#pragma once

#include "models/model.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace nemo {

struct SessionOptions {
    int64_t n_context =
        0;                // most tokens a session may hold; 0: the length the model was trained for
    int64_t chunk = 256;  // prompt tokens taken in at once; bounds scratch memory and stop latency
    KvTypes kv_types;     // number formats of the key-value caches
};

class Session {
public:
    Session(const Model& model, const SessionOptions& options);

    const std::vector<int32_t>& tokens() const { return tokens_; }
    int64_t n_context() const { return n_context_; }
    const SequenceState& state() const { return state_; }
    void reset();

    // Asked before each chunk; true ends the call early, with the state at a chunk's border.
    using Cancelled = std::function<bool()>;
    // Appends tokens and returns the logits [n_vocab] after the last one, valid until the next
    // call; empty if cancelled. Throws Error{context_full} before changing anything if they do not
    // fit, and Error{usage} naming an id outside the vocabulary.
    std::span<const float> append(std::span<const int32_t> tokens, const Cancelled& cancelled = {});

    // The same, but hands out the logits of every token: sink(rows [n, n_vocab]) per chunk, in
    // order.
    using LogitsSink = std::function<void(std::span<const float> rows)>;
    void append_with_logits(std::span<const int32_t> tokens, const LogitsSink& sink);

private:
    void check_tokens(std::span<const int32_t> tokens) const;
    void run_chunk(std::span<const int32_t> chunk, int64_t n_logits);

    const Model& model_;
    int64_t n_context_;
    int64_t chunk_;
    Workspace work_;
    SequenceState state_;
    std::vector<int32_t> tokens_;
    std::vector<float> logits_;
};

}  // namespace nemo
