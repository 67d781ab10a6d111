// How much memory a model takes to run: what `nemo-cli info` and the converter's plan print.
#pragma once

#include "kernels/kv_cache.h"
#include "models/config.h"

#include <cstdint>

namespace nemo {

// Bytes.
struct MemoryNeed {
    int64_t weights = 0;
    int64_t state = 0;    // of the recurrent layers, per session
    int64_t cache = 0;    // keys and values of `n_context` tokens
    int64_t scratch = 0;  // of one forward pass over a prompt chunk, and the logits

    int64_t total() const { return weights + state + cache + scratch; }
};

// Of one session that holds `n_context` tokens.
MemoryNeed memory_need(const ModelConfig& config, int64_t n_weight_bytes, int64_t n_context,
                       const KvTypes& kv_types = {});

}  // namespace nemo
