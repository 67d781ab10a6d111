// Sixteen blocks side by side: lane i of a vector belongs to block i, so that a search over scales
// needs no sums across a vector and every instruction set computes the same bits. Included into an
// unnamed namespace by every encode_tier_*.cpp, compiled for that tier's instruction set.

#define NEMO_INLINE static inline __attribute__((always_inline))

constexpr int kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntLanes __attribute__((vector_size(4 * kLanes)));

NEMO_INLINE Lanes splat(float value) {
    return Lanes{} + value;
}

NEMO_INLINE Lanes smaller(const Lanes& a, const Lanes& b) {
    return a < b ? a : b;
}

NEMO_INLINE Lanes larger(const Lanes& a, const Lanes& b) {
    return a > b ? a : b;
}

NEMO_INLINE Lanes magnitude(const Lanes& a) {
    return (Lanes)((IntLanes)a & 0x7fffffff);
}

// To the nearest whole number, ties to even; |a| < 2^22.
NEMO_INLINE Lanes rounded(const Lanes& a) {
    constexpr float kWholeNumbers = 0x1.8p23f;
    return (a + kWholeNumbers) - kWholeNumbers;
}

NEMO_INLINE Lanes clamped(const Lanes& a, float low, float high) {
    return smaller(larger(a, splat(low)), splat(high));
}

// 1/a, and 0 where a is 0: a block whose scale vanishes gets the codes of zeros.
NEMO_INLINE Lanes reciprocal(const Lanes& a) {
    return a != 0.0f ? 1.0f / a : Lanes{};
}

// The nearest finite fp16. Scales beyond it belong to blocks that the format cannot hold.
NEMO_INLINE float clamped_to_f16(float value) {
    constexpr float kLargest = 65504.0f;
    const float below = value < kLargest ? value : kLargest;
    return below > -kLargest ? below : -kLargest;
}

NEMO_INLINE void store_f16(float value, std::byte* target) {
    const uint16_t bits = f32_to_f16(clamped_to_f16(value));
    std::memcpy(target, &bits, sizeof bits);
}

// L elements of each of 16 blocks, divided by a power of two per scale group of P blocks (the
// blocks that share a super-block's scale), so that no sum overflows or vanishes.
template <int L>
struct Group {
    Lanes x[L];
    Lanes weight[L];
    Lanes unit;     // what the values were divided by
    Lanes inverse;  // 1 / unit
};

// Values of a scale once it is stored as fp16, in units of the group.
template <int L>
NEMO_INLINE Lanes as_stored(const Group<L>& group, const Lanes& scale) {
    Lanes stored = scale * group.unit;
    for (int lane = 0; lane < kLanes; ++lane)
        stored[lane] = f16_to_f32(f32_to_f16(clamped_to_f16(stored[lane])));
    return stored * group.inverse;
}

template <int P>
NEMO_INLINE Lanes largest_of_groups(const Lanes& values) {
    if constexpr (P == 1) return values;
    Lanes result = values;
    for (int first = 0; first < kLanes; first += P) {
        float largest = values[first];
        for (int i = 1; i < P; ++i)
            largest = values[first + i] > largest ? values[first + i] : largest;
        for (int i = 0; i < P; ++i) result[first + i] = largest;
    }
    return result;
}

template <int P>
NEMO_INLINE Lanes sums_of_groups(const Lanes& values) {
    Lanes result = values;
    for (int first = 0; first < kLanes; first += P) {
        float sum = 0.0f;
        for (int i = 0; i < P; ++i) sum += values[first + i];
        for (int i = 0; i < P; ++i) result[first + i] = sum;
    }
    return result;
}

// Element j of block i is source[L * i + j]; beyond `n_blocks` blocks zeros with weight 1.
template <int L>
NEMO_INLINE void transpose_blocks(const float* source, int64_t n_blocks, float padding,
                                  Lanes* target) {
    alignas(64) float columns[L][kLanes];
    const int n = n_blocks < kLanes ? static_cast<int>(n_blocks) : kLanes;
    for (int lane = 0; lane < n; ++lane)
        for (int j = 0; j < L; ++j) columns[j][lane] = source[L * lane + j];
    for (int lane = n; lane < kLanes; ++lane)
        for (int j = 0; j < L; ++j) columns[j][lane] = padding;
    std::memcpy(target, columns, sizeof columns);
}

// 2^e <= a < 2^(e+1), kept within [2^-126, 2^127] so that it has an inverse.
NEMO_INLINE Lanes power_of_two_below(const Lanes& a) {
    const IntLanes exponent = (IntLanes)a & 0x7f800000;
    return (Lanes)(exponent > 0x00800000 ? exponent : IntLanes{} + 0x00800000);
}

template <int L, int P>
NEMO_INLINE void load_group(const float* source, const float* importance, int64_t n_blocks,
                            Group<L>& group) {
    transpose_blocks<L>(source, n_blocks, 0.0f, group.x);
    Lanes largest = Lanes{};
    for (int j = 0; j < L; ++j) largest = larger(largest, magnitude(group.x[j]));
    group.unit = power_of_two_below(largest_of_groups<P>(largest));
    group.inverse = 1.0f / group.unit;
    for (int j = 0; j < L; ++j) group.x[j] *= group.inverse;
    if (importance == nullptr) {
        for (int j = 0; j < L; ++j) group.weight[j] = splat(1.0f);
        return;
    }
    transpose_blocks<L>(importance, n_blocks, 1.0f, group.weight);
    Lanes heaviest = Lanes{};
    for (int j = 0; j < L; ++j) heaviest = larger(heaviest, group.weight[j]);
    heaviest = largest_of_groups<P>(heaviest);
    // Weights that are all 0 count as equal; a single 0 keeps a trace, so that no sum of weights
    // vanishes.
    constexpr float kVanishing = 1e-30f, kTrace = 1e-9f;
    const Lanes scale = heaviest > kVanishing ? 1.0f / heaviest : Lanes{};
    const Lanes least = heaviest > kVanishing ? splat(kTrace) : splat(1.0f);
    for (int j = 0; j < L; ++j) group.weight[j] = larger(group.weight[j] * scale, least);
}

// Codes of a group as bytes, back in the order of the source.
template <int L>
struct Codes {
    uint8_t of[kLanes][L];

    NEMO_INLINE_MEMBER void set(int j, const Lanes& codes) {
        const IntLanes whole = __builtin_convertvector(codes, IntLanes);
        for (int lane = 0; lane < kLanes; ++lane) of[lane][j] = static_cast<uint8_t>(whole[lane]);
    }
};

// ---------------------------------------------------------------- codebooks
// nearest(): the value a code stands for; index(): the code of such a value.

template <int kLow, int kHigh>
struct WholeNumbers {
    NEMO_INLINE_MEMBER static Lanes nearest(const Lanes& y) {
        return rounded(clamped(y, kLow, kHigh));
    }
    NEMO_INLINE_MEMBER static Lanes index(const Lanes& value) {
        return value - static_cast<float>(kLow);
    }
};

// The table of IQ4_NL and IQ4_XS.
struct UnevenNumbers {
    static constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

    static constexpr float middle(int i) { return 0.5f * (kValues[i - 1] + kValues[i]); }

#ifdef NEMO_LOOKUP_OF_32
    // The line is cut into 32 pieces with at most one middle in each, and none near an end.
    struct Pieces {
        float middle[32], below[32], above[32];
    };
    static constexpr float kFirstPiece = 132.0f, kPiecesPerUnit = 0.125f;

    static constexpr Pieces make_pieces() {
        Pieces pieces = {};
        for (int k = 0; k < 32; ++k) {
            int n = 0;  // middles up to the end of the piece
            while (n < 15 &&
                   (middle(n + 1) + kFirstPiece) * kPiecesPerUnit < static_cast<float>(k + 1))
                ++n;
            const int before = n > 0 ? n - 1 : 0;
            pieces.middle[k] = n > 0 ? middle(n) : -1e30f;
            pieces.below[k] = kValues[before];
            pieces.above[k] = kValues[n];
        }
        return pieces;
    }

    NEMO_INLINE_MEMBER static Lanes looked_up(const float* table, const IntLanes& index) {
        Lanes low, high;
        std::memcpy(&low, table, sizeof low);
        std::memcpy(&high, table + kLanes, sizeof high);
        return __builtin_shuffle(low, high, index);
    }

    NEMO_INLINE_MEMBER static Lanes nearest(const Lanes& y) {
        static constexpr Pieces kPieces = make_pieces();
        const Lanes position = (clamped(y, -130.0f, 120.0f) + kFirstPiece) * kPiecesPerUnit;
        const IntLanes k = __builtin_convertvector(position, IntLanes);
        return y > looked_up(kPieces.middle, k) ? looked_up(kPieces.above, k)
                                                : looked_up(kPieces.below, k);
    }
#else
    NEMO_INLINE_MEMBER static Lanes nearest(const Lanes& y) {
        Lanes value = splat(kValues[0]);
        for (int i = 1; i < 16; ++i) value = y > middle(i) ? splat(kValues[i]) : value;
        return value;
    }
#endif

    NEMO_INLINE_MEMBER static Lanes index(const Lanes& value) {
        Lanes code = Lanes{};
        for (int i = 1; i < 16; ++i)
            code = value >= kValues[i] ? splat(static_cast<float>(i)) : code;
        return code;
    }
};

// Twice the E2M1 values: 0 1 2 3 4 6 8 12 and their negatives, whose codes have bit 3 set.
struct Float4 {
    NEMO_INLINE_MEMBER static Lanes nearest(const Lanes& y) {
        const Lanes a = smaller(magnitude(y), splat(12.0f));
        const Lanes fine = rounded(a), middle = 2.0f * rounded(0.5f * a);
        const Lanes coarse = smaller(4.0f * rounded(0.25f * a), splat(12.0f));
        const Lanes value = a < 4.0f ? fine : (a < 8.0f ? middle : coarse);
        return y < 0.0f ? -value : value;
    }

    NEMO_INLINE_MEMBER static Lanes index(const Lanes& value) {
        const Lanes a = magnitude(value);
        const Lanes code =
            a < 5.0f ? a : (a < 7.0f ? splat(5.0f) : (a < 9.0f ? splat(6.0f) : splat(7.0f)));
        return value < 0.0f ? code + 8.0f : code;
    }
};
