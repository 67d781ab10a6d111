// Rotary positions on the CPU (Backend::rope). Plain code: it is a vanishing part of a layer's
// work, and sine and cosine of the C library are the same in every instruction tier.
#pragma once

#include "kernels/backend.h"

#include <cstdint>

namespace nemo {

// The heads of one token, in place: x [n_heads, head_dim]. `angles`: scratch, rotary.n_dims floats.
void rotate_heads(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
                  float* angles, float* x);

}  // namespace nemo
