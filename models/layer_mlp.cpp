// The squared-ReLU MLP: down(relu(up(h))^2), no gate.
#include "models/layers.h"

namespace nemo {

void mlp_layer(const LayerInput& in, int64_t n_ff, const MlpWeights& weights) {
    float* ff = in.work.get(Scratch::feed_forward, in.n_tokens * n_ff);
    in.backend.matmul(weights.up.weight, in.normed({&weights.up.weight}), in.n_tokens, ff,
                      Epilogue::relu2, weights.up.bias, {&weights.down.weight});
    in.backend.matmul(weights.down.weight, ff, in.n_tokens, in.x, Epilogue::add, weights.down.bias);
}

}  // namespace nemo
