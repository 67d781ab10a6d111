// Vectors of 16 floats, made of as many native registers as the tier needs. Included inside the
// anonymous namespace of a tier file, which defines before:
//   kNativeLanes, NativeF, NativeU (vectors of that many 32-bit elements),
//   fma_native(a, b, c) = a * b + c, sum_native(v), load_f16_native(const void*),
//   load_bf16_native(const void*).
// Compiled with -ffp-contract=off: what is fused is written as fma.

template <int kLanes>
struct Vec {
    Vec<kLanes / 2> low, high;
};
template <>
struct Vec<kNativeLanes> {
    NativeF v;
};
using Vec16 = Vec<16>;

// Applies a function of native vectors to every native part.
template <int kLanes, class Function, class... Args>
NEMO_INLINE Vec<kLanes> map(Function function, const Args&... args) {
    if constexpr (kLanes == kNativeLanes)
        return {function(args.v...)};
    else
        return {map<kLanes / 2>(function, args.low...), map<kLanes / 2>(function, args.high...)};
}

// Builds a vector from function(lane index of the part).
template <int kLanes, class Function>
NEMO_INLINE Vec<kLanes> generate(Function function, int lane = 0) {
    if constexpr (kLanes == kNativeLanes)
        return {function(lane)};
    else
        return {generate<kLanes / 2>(function, lane),
                generate<kLanes / 2>(function, lane + kLanes / 2)};
}

NEMO_INLINE Vec16 operator+(const Vec16& a, const Vec16& b) {
    return map<16>([](NativeF x, NativeF y) { return x + y; }, a, b);
}
NEMO_INLINE Vec16 operator*(const Vec16& a, const Vec16& b) {
    return map<16>([](NativeF x, NativeF y) { return x * y; }, a, b);
}
NEMO_INLINE Vec16 operator/(const Vec16& a, const Vec16& b) {
    return map<16>([](NativeF x, NativeF y) { return x / y; }, a, b);
}
NEMO_INLINE Vec16 fma(const Vec16& a, const Vec16& b, const Vec16& c) {
    return map<16>([](NativeF x, NativeF y, NativeF z) { return fma_native(x, y, z); }, a, b, c);
}

NEMO_INLINE Vec16 splat(float value) {
    return generate<16>([&](int) { return value - NativeF{}; });
}

NEMO_INLINE Vec16 load(const float* p) {
    return generate<16>([&](int lane) {
        NativeF v;
        __builtin_memcpy(&v, p + lane, sizeof v);
        return v;
    });
}

template <int kLanes>
NEMO_INLINE void store(float* p, const Vec<kLanes>& a) {
    if constexpr (kLanes == kNativeLanes) {
        __builtin_memcpy(p, &a.v, sizeof a.v);
    } else {
        store(p, a.low);
        store(p + kLanes / 2, a.high);
    }
}

// The first `count` < 16 elements; the other lanes are zero and are not stored.
NEMO_INLINE Vec16 load_part(const float* p, int64_t count) {
    float padded[16] = {};
    for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
    return load(padded);
}
NEMO_INLINE void store_part(float* p, const Vec16& a, int64_t count) {
    float padded[16];
    store(padded, a);
    for (int64_t i = 0; i < count; ++i) p[i] = padded[i];
}

// A row of n elements as steps of 16 and, if it does not divide, a shorter last one.
template <class Step>
NEMO_INLINE void for_each_16(int64_t n, Step step) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        step([i](const float* p) { return load(p + i); },
             [i](float* p, const Vec16& a) { store(p + i, a); });
    if (i < n)
        step([i, n](const float* p) { return load_part(p + i, n - i); },
             [i, n](float* p, const Vec16& a) { store_part(p + i, a, n - i); });
}

// Always the same tree: halves are added until one value is left.
template <int kLanes>
NEMO_INLINE float sum(const Vec<kLanes>& a) {
    if constexpr (kLanes == kNativeLanes) {
        return sum_native(a.v);
    } else {
        const auto add = [](NativeF x, NativeF y) { return x + y; };
        return sum(map<kLanes / 2>(add, a.low, a.high));
    }
}

NEMO_INLINE NativeF absolute(NativeF v) {
    return reinterpret_cast<NativeF>(reinterpret_cast<NativeU>(v) & 0x7fffffffu);
}

// e^x to 1-2 units in the last place; 0 below the smallest normal result; the largest results are
// those of x = 88. x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial, which is good
// to 6e-9 there. ln 2 is split in two so that n times the first part is exact.
NEMO_INLINE NativeF exp_native(NativeF x) {
    constexpr float kLargest = 88.0f, kSmallest = -87.33f;
    constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
    const NativeF zero = {};
    NativeF clamped = x > kLargest ? zero + kLargest : x;
    clamped = clamped < kSmallest ? zero + kSmallest : clamped;
    const NativeF shifted = fma_native(clamped, zero + 1.44269504f, zero + kRound);
    const NativeF n = shifted - kRound;
    NativeF r = fma_native(n, zero - 0x1.62e4p-1f, clamped);
    r = fma_native(n, zero - 1.42860677e-6f, r);
    NativeF p = zero + 1.0f / 5040.0f;
    p = fma_native(p, r, zero + 1.0f / 720.0f);
    p = fma_native(p, r, zero + 1.0f / 120.0f);
    p = fma_native(p, r, zero + 1.0f / 24.0f);
    p = fma_native(p, r, zero + 1.0f / 6.0f);
    p = fma_native(p, r, zero + 0.5f);
    p = fma_native(p * r, r, r) + 1.0f;
    const NativeU exponent = reinterpret_cast<NativeU>(shifted) << 23;
    const NativeF power = reinterpret_cast<NativeF>(exponent + 0x3f800000u);
    return x < kSmallest ? zero : p * power;
}

NEMO_INLINE Vec16 silu(const Vec16& x) {
    return map<16>([](NativeF v) { return v / (exp_native(-v) + 1.0f); }, x);
}
