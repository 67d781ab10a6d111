#include "quant/half.h"

#include <limits>

namespace nemo {

float e4m3_to_f32(uint8_t bits) {
    const uint32_t magnitude = bits & 0x7fu;
    // Bias 7 to bias 127 by multiplication: exact, subnormals included.
    const float value = magnitude == 0x7f ? std::numeric_limits<float>::quiet_NaN()
                                          : std::bit_cast<float>(magnitude << 20) * 0x1p120f;
    return (bits & 0x80u) != 0 ? -value : value;
}

}  // namespace nemo
