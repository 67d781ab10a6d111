#include "models/layers.h"

namespace nemo {

void apply_norm(Backend& backend, NormKind kind, const NormWeights& weights, float eps,
                const float* x, int64_t n_tokens, int64_t n, float* y, Readers readers) {
    if (kind == NormKind::rms)
        backend.rms_norm(x, weights.weight, eps, n_tokens, n, y, readers);
    else
        backend.layer_norm(x, weights.weight, weights.bias, eps, n_tokens, n, y, readers);
}

const float* LayerInput::normed(Readers readers) const {
    float* h = work.get(Scratch::normed, n_tokens * n_embd);
    apply_norm(backend, norm_kind, norm, norm_eps, x, n_tokens, n_embd, h, readers);
    return h;
}

}  // namespace nemo
