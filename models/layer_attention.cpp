// Grouped-query attention. A hybrid model has no positions here, order comes from its Mamba-2
// layers; a Transformer turns queries and keys, and the cache holds keys that are turned already.
#include "models/layers.h"

namespace nemo {

void attention_layer(const LayerInput& in, const AttentionShape& shape,
                     const AttentionWeights& weights, const KvCache& keys, const KvCache& values) {
    const int64_t n_tokens = in.n_tokens;
    float* q = in.work.get(Scratch::query, n_tokens * shape.q_dim());
    float* k = in.work.get(Scratch::key, n_tokens * shape.kv_dim());
    float* v = in.work.get(Scratch::value, n_tokens * shape.kv_dim());
    const float* h = in.normed({&weights.q.weight, &weights.k.weight, &weights.v.weight});
    in.backend.matmul(weights.q.weight, h, n_tokens, q, Epilogue::store, weights.q.bias);
    in.backend.matmul(weights.k.weight, h, n_tokens, k, Epilogue::store, weights.k.bias);
    in.backend.matmul(weights.v.weight, h, n_tokens, v, Epilogue::store, weights.v.bias);
    if (const RotaryShape& rotary = shape.rotary; rotary.n_dims > 0) {
        in.backend.rope(rotary, shape.n_heads, shape.head_dim, in.position, n_tokens, q);
        in.backend.rope(rotary, shape.n_kv_heads, shape.head_dim, in.position, n_tokens, k);
    }
    in.backend.kv_append(k, n_tokens, in.position, keys);
    in.backend.kv_append(v, n_tokens, in.position, values);

    float* y = in.work.get(Scratch::mixed, n_tokens * shape.q_dim());
    in.backend.attention(shape, q, keys, values, in.position, n_tokens, y);
    in.backend.matmul(weights.output.weight, y, n_tokens, in.x, Epilogue::add, weights.output.bias);
}

}  // namespace nemo
