#include "models/memory.h"

#include "models/sequence_state.h"
#include "models/session.h"

#include <algorithm>

namespace nemo {

namespace {

// The buffers of models/workspace.h per token; layers share them, so each is as large as the layer
// that needs most.
struct ScratchWidths {
    int64_t projection = 0;
    int64_t convolved = 0;
    int64_t mixed = 0;
    int64_t attention = 0;  // query, key and value
    int64_t feed_forward = 0;
    int64_t experts = 0;  // router logits, latent and routed

    void cover(const LayerConfig& layer, int64_t n_embd) {
        const auto grow = [](int64_t& width, int64_t n) { width = std::max(width, n); };
        switch (layer.kind) {
            case LayerKind::mamba2:
                grow(projection, layer.mamba2.in_proj_dim());
                grow(convolved, layer.mamba2.conv_dim());
                grow(mixed, layer.mamba2.d_inner());
                return;
            case LayerKind::attention:
                grow(attention, layer.attention.q_dim() + 2 * layer.attention.kv_dim());
                grow(mixed, layer.attention.q_dim());
                return;
            case LayerKind::mlp:
                grow(feed_forward, layer.n_ff);
                return;
            case LayerKind::moe:
                grow(feed_forward, layer.moe.n_ff_shared);
                grow(experts, layer.moe.router.n_experts +
                                  (layer.moe.n_latent > 0 ? 2 * layer.moe.n_latent : n_embd));
                return;
        }
    }

    int64_t sum() const {
        return projection + convolved + mixed + attention + feed_forward + experts;
    }
};

}  // namespace

MemoryNeed memory_need(const ModelConfig& config, int64_t n_weight_bytes, int64_t n_context,
                       const KvTypes& kv_types) {
    ScratchWidths widths;
    for (const LayerConfig& layer : config.layers) widths.cover(layer, config.n_embd);
    const int64_t n_tokens = std::min(SessionOptions().chunk, n_context);
    const int64_t n_floats = n_tokens * (2 * config.n_embd + widths.sum()) + config.n_vocab;
    return {n_weight_bytes, recurrent_state_bytes(config),
            kv_bytes_per_token(config, kv_types) * n_context,
            n_floats * static_cast<int64_t>(sizeof(float))};
}

}  // namespace nemo
