// Mixture of experts: a sigmoid router picks experts (biased for selection only), their weighted
// sum goes back through the latent projection if there is one, and a shared expert is always added.
#include "models/layers.h"

namespace nemo {

namespace {

void route_tokens(const LayerInput& in, const float* h, const RouterShape& router,
                  const MoeWeights& weights) {
    float* logits = in.work.get(Scratch::router_logits, in.n_tokens * router.n_experts);
    in.backend.matmul(weights.router, h, in.n_tokens, logits, Epilogue::store);
    const auto n_choices = static_cast<size_t>(in.n_tokens * router.n_used);
    in.work.expert_ids.resize(n_choices);
    in.work.expert_weights.resize(n_choices);
    in.backend.route(router, logits, weights.router_bias, in.n_tokens, in.work.expert_ids.data(),
                     in.work.expert_weights.data());
}

}  // namespace

void moe_layer(const LayerInput& in, const MoeShape& shape, const MoeWeights& weights) {
    const float* h = in.normed({});
    route_tokens(in, h, shape.router, weights);

    const int64_t n_in = weights.experts_up.n_in();  // latent size, or hidden size
    const float* v = h;
    if (shape.n_latent > 0) {
        float* latent = in.work.get(Scratch::latent, in.n_tokens * n_in);
        in.backend.matmul(weights.latent_down, h, in.n_tokens, latent, Epilogue::store);
        v = latent;
    }
    float* routed = in.work.get(Scratch::experts, in.n_tokens * n_in);
    in.backend.experts(weights.experts_up, weights.experts_down, shape.router,
                       in.work.expert_ids.data(), in.work.expert_weights.data(), v, in.n_tokens,
                       routed);
    if (shape.n_latent > 0)
        in.backend.matmul(weights.latent_up, routed, in.n_tokens, in.x, Epilogue::add);
    else
        in.backend.add(routed, in.n_tokens * n_in, in.x);

    if (shape.n_ff_shared > 0) {
        float* ff = in.work.get(Scratch::feed_forward, in.n_tokens * shape.n_ff_shared);
        in.backend.matmul(weights.shared_up, h, in.n_tokens, ff, Epilogue::relu2, {},
                          {&weights.shared_down});
        in.backend.matmul(weights.shared_down, ff, in.n_tokens, in.x, Epilogue::add);
    }
}

}  // namespace nemo
