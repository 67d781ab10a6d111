// The choice of experts for one token (nemotron-h.md 2.6).
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"

#include <cstdint>

namespace nemo {

struct RouterScratch {
    ScratchBuffer<float> scores;
    ScratchBuffer<float> group_scores;
    ScratchBuffer<bool> taken;
};

// logits, bias: [n_experts], bias may be null; ids, weights: [n_used], best first. Always gives
// n_used different ids, also for NaN.
void route_token(const RouterShape& shape, const float* logits, const float* bias, int32_t* ids,
                 float* weights, RouterScratch& scratch);

}  // namespace nemo
