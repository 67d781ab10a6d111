#include "kernels/cpu/rope.h"

#include <cmath>

namespace nemo {

void rotate_heads(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
                  float* angles, float* x) {
    const int64_t n_pairs = rotary.n_dims / 2;
    float* cosines = angles;
    float* sines = angles + n_pairs;
    // In double: at position 100000 a float angle is off by 4e-3.
    const double scaled_position =
        static_cast<double>(position) * static_cast<double>(rotary.position_scale);
    for (int64_t i = 0; i < n_pairs; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotary.n_dims);
        const double angle =
            scaled_position * std::pow(static_cast<double>(rotary.theta), exponent);
        cosines[i] = static_cast<float>(std::cos(angle));
        sines[i] = static_cast<float>(std::sin(angle));
    }
    for (int64_t head = 0; head < n_heads; ++head) {
        float* first = x + head * head_dim;
        float* second = first + n_pairs;
        for (int64_t i = 0; i < n_pairs; ++i) {
            const float a = first[i], b = second[i];
            first[i] = a * cosines[i] - b * sines[i];
            second[i] = b * cosines[i] + a * sines[i];
        }
    }
}

}  // namespace nemo
