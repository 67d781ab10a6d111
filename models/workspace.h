// Scratch memory for one forward pass: named, grow-only buffers, reused by every layer.
#pragma once

#include "kernels/backend.h"

#include <array>
#include <cstdint>
#include <vector>

namespace nemo {

enum class Scratch {
    hidden,      // [T, E] the residual stream
    normed,      // [T, E] a layer's input after its norm
    projection,  // Mamba-2 in_proj
    convolved,   // Mamba-2 x, B, C after the convolution
    mixed,       // a mixer's result before its output projection
    query,
    key,
    value,
    feed_forward,
    router_logits,
    latent,
    experts,
    count,
};

class Workspace {
public:
    explicit Workspace(Backend& backend) : backend_(backend) {}

    // At least n floats, contents undefined; valid until the same buffer is asked for again.
    float* get(Scratch which, int64_t n) {
        const auto index = static_cast<size_t>(which);
        if (sizes_[index] < n) {
            buffers_[index] = backend_.alloc(n);
            sizes_[index] = n;
        }
        return buffers_[index].get();
    }

    // Routing decisions, [T, k].
    std::vector<int32_t> expert_ids;
    std::vector<float> expert_weights;

private:
    static constexpr size_t kCount = static_cast<size_t>(Scratch::count);
    Backend& backend_;
    std::array<FloatBuffer, kCount> buffers_;
    std::array<int64_t, kCount> sizes_ = {};
};

}  // namespace nemo
