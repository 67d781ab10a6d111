// Rows through the codec and back, and reproducible rows for tests of the encoders.
#pragma once

#include "quant/codec.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace nemo {

inline std::vector<float> decode(DType dtype, const std::vector<std::byte>& bytes) {
    const DTypeInfo& info = dtype_info(dtype);
    std::vector<float> values(bytes.size() / static_cast<size_t>(info.block_bytes) *
                              static_cast<size_t>(info.block_size));
    decode_row(dtype, bytes.data(), values.data(), static_cast<int64_t>(values.size()));
    return values;
}

inline std::vector<std::byte> encode(DType dtype, const std::vector<float>& values,
                                     const float* importance = nullptr) {
    const DTypeInfo& info = dtype_info(dtype);
    std::vector<std::byte> bytes(values.size() / static_cast<size_t>(info.block_size) *
                                 static_cast<size_t>(info.block_bytes));
    encode_row(dtype, values.data(), bytes.data(), static_cast<int64_t>(values.size()), importance);
    return bytes;
}

constexpr int64_t kTestRow = 2048;

// Roughly normal with deviation 0.08; with `heavy_tail`, some values are many deviations large.
inline std::vector<float> encoder_values(bool heavy_tail) {
    std::mt19937 engine(heavy_tail ? 11 : 5);
    const auto uniform = [&] { return static_cast<float>(engine() >> 8) * 0x1p-24f; };
    std::vector<float> values(kTestRow);
    for (float& value : values) {
        float sum = -6.0f;
        for (int i = 0; i < 12; ++i) sum += uniform();
        value = 0.08f * sum;
        if (heavy_tail) value *= 0.2f / std::sqrt(uniform() + 0.004f);
    }
    return values;
}

// Over three orders of magnitude, as activations have it.
inline std::vector<float> encoder_importance() {
    std::mt19937 engine(23);
    std::vector<float> weights(kTestRow);
    for (float& weight : weights) {
        const float u = static_cast<float>(engine() >> 8) * 0x1p-24f;
        weight = 1.0f / (u * u + 0.001f);
    }
    return weights;
}

// sqrt(sum weight (decoded - value)^2 / sum weight value^2); null weights: all 1.
inline double relative_error(const std::vector<float>& values, const std::vector<float>& decoded,
                             const float* weights) {
    double error = 0.0, total = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
        const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
        const double value = static_cast<double>(values[i]);
        const double difference = static_cast<double>(decoded[i]) - value;
        error += weight * difference * difference;
        total += weight * value * value;
    }
    return std::sqrt(error / total);
}

}  // namespace nemo
