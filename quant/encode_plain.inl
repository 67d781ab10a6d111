// What every conversion does with every value, and needs no search: widening BF16, the largest
// magnitude, Q8_0 from each block's largest value. Like the rest the same bits in every tier.

typedef uint16_t ShortLanes __attribute__((vector_size(2 * kLanes)));
typedef int8_t ByteLanes __attribute__((vector_size(kLanes)));

void decode_bf16_row(const std::byte* source, float* target, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        ShortLanes upper;
        std::memcpy(&upper, source + 2 * i, sizeof upper);
        const IntLanes bits = __builtin_convertvector(upper, IntLanes) << 16;
        std::memcpy(target + i, &bits, sizeof bits);
    }
    for (; i < n; ++i) {
        uint16_t upper;
        std::memcpy(&upper, source + 2 * i, sizeof upper);
        target[i] = bf16_to_f32(upper);
    }
}

// Magnitudes are ordered as their bits are, and NaN is above all of them.
NEMO_INLINE IntLanes magnitude_bits(const float* values) {
    IntLanes bits;
    std::memcpy(&bits, values, sizeof bits);
    return bits & 0x7fffffff;
}

NEMO_INLINE IntLanes larger_of(const IntLanes& a, const IntLanes& b) {
    return a > b ? a : b;
}

NEMO_INLINE int32_t largest_lane(const IntLanes& lanes) {
    int32_t largest = 0;
    for (int lane = 0; lane < kLanes; ++lane)
        largest = lanes[lane] > largest ? lanes[lane] : largest;
    return largest;
}

float largest_magnitude_of_row(const float* values, int64_t n) {
    IntLanes even = IntLanes{}, odd = IntLanes{};
    int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
        even = larger_of(even, magnitude_bits(values + i));
        odd = larger_of(odd, magnitude_bits(values + i + kLanes));
    }
    int32_t largest = largest_lane(larger_of(even, odd));
    for (; i < n; ++i) {
        const int32_t bits = std::bit_cast<int32_t>(values[i]) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return std::bit_cast<float>(largest);
}

// Halves away from zero, of |a| < 2^22: what is added is the largest number below one half, so that
// nothing else reaches the next whole number.
NEMO_INLINE IntLanes rounded_away(const Lanes& a) {
    constexpr float kBelowHalf = 0x1.fffffep-2f;
    const IntLanes signed_half =
        ((IntLanes)a & std::numeric_limits<int32_t>::min()) | std::bit_cast<int32_t>(kBelowHalf);
    return __builtin_convertvector(a + (Lanes)signed_half, IntLanes);
}

// The scales of up to 16 blocks at once, as they are stored and inverted. Codes come from the
// unrounded scale, as in the reference encoder.
struct PlainScales {
    uint16_t stored[kLanes];
    float inverse[kLanes];
};

NEMO_INLINE void plain_scales(const float* source, int64_t n_blocks, PlainScales& scales) {
    IntLanes largest = IntLanes{};
    for (int64_t i = 0; i < n_blocks; ++i)
        largest[i] = largest_lane(larger_of(magnitude_bits(source + 2 * kLanes * i),
                                            magnitude_bits(source + 2 * kLanes * i + kLanes)));
    const Lanes scale = (Lanes)largest / 127.0f;
    // A block of zeros, or of values so small that 1 / scale is infinite: its fp16 scale is 0.
    const Lanes inverse = scale > 0x1p-127f ? 1.0f / scale : Lanes{};
    std::memcpy(scales.inverse, &inverse, sizeof inverse);
    for (int lane = 0; lane < kLanes; ++lane)
        scales.stored[lane] = f32_to_f16(clamped_to_f16(scale[lane]));
}

void encode_plain_q8_0(const float* source, std::byte* target, int64_t n) {
    for (int64_t first = 0; first < n; first += 2 * kLanes * kLanes) {
        const int64_t n_blocks = std::min<int64_t>(kLanes, (n - first) / (2 * kLanes));
        PlainScales scales;
        plain_scales(source + first, n_blocks, scales);
        for (int64_t i = 0; i < n_blocks; ++i, target += 34) {
            std::memcpy(target, &scales.stored[i], sizeof(uint16_t));
            for (int half = 0; half < 2; ++half) {
                Lanes values;
                std::memcpy(&values, source + first + (2 * i + half) * kLanes, sizeof values);
                const auto codes =
                    __builtin_convertvector(rounded_away(values * scales.inverse[i]), ByteLanes);
                std::memcpy(target + 2 + half * kLanes, &codes, sizeof codes);
            }
        }
    }
}
