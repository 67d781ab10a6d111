// Vectors of 16 sums of int8 products. A tier file defines before
//   NativeI: vector of kNativeLanes int32
//   NativeCodes, load_codes_native(const unsigned char*): 4 * kNativeLanes unsigned bytes
//   dot_native<kSmallCodes>(NativeI, NativeCodes, int32_t): + the four products of every lane,
//   exact (small codes: QuantTraits::has_small_codes())
//   dot_pairs_native(NativeI, NativeI, int32_t): + the two products of every lane's words

template <int kLanes>
struct IntVec {
    IntVec<kLanes / 2> low, high;
};
template <>
struct IntVec<kNativeLanes> {
    NativeI v;
};
template <int kLanes>
struct Codes {
    Codes<kLanes / 2> low, high;
};
template <>
struct Codes<kNativeLanes> {
    NativeCodes v;
};

template <int kLanes>
NEMO_INLINE IntVec<kLanes> splat_int(int32_t value) {
    if constexpr (kLanes == kNativeLanes)
        return {value - NativeI{}};
    else
        return {splat_int<kLanes / 2>(value), splat_int<kLanes / 2>(value)};
}
template <int kLanes>
NEMO_INLINE Codes<kLanes> load_codes(const unsigned char* p) {
    if constexpr (kLanes == kNativeLanes)
        return {load_codes_native(p)};
    else
        return {load_codes<kLanes / 2>(p), load_codes<kLanes / 2>(p + 2 * kLanes)};
}
template <bool kSmallCodes, int kLanes>
NEMO_INLINE IntVec<kLanes> dot(const IntVec<kLanes>& sum, const Codes<kLanes>& codes, int32_t x) {
    if constexpr (kLanes == kNativeLanes)
        return {dot_native<kSmallCodes>(sum.v, codes.v, x)};
    else
        return {dot<kSmallCodes>(sum.low, codes.low, x), dot<kSmallCodes>(sum.high, codes.high, x)};
}
template <int kLanes>
NEMO_INLINE Vec<kLanes> to_float(const IntVec<kLanes>& a) {
    if constexpr (kLanes == kNativeLanes)
        return {__builtin_convertvector(a.v, NativeF)};
    else
        return {to_float(a.low), to_float(a.high)};
}
template <int kLanes>
NEMO_INLINE IntVec<kLanes> load_ints(const void* p) {
    if constexpr (kLanes == kNativeLanes) {
        NativeI v;
        __builtin_memcpy(&v, p, sizeof v);
        return {v};
    } else {
        return {load_ints<kLanes / 2>(p),
                load_ints<kLanes / 2>(static_cast<const unsigned char*>(p) + 2 * kLanes)};
    }
}
// sum + a * (the low words of b)
template <int kLanes>
NEMO_INLINE IntVec<kLanes> multiply_add(const IntVec<kLanes>& a, const IntVec<kLanes>& b,
                                        const IntVec<kLanes>& sum) {
    if constexpr (kLanes == kNativeLanes)
        return {sum.v + a.v * (b.v << 16 >> 16)};
    else
        return {multiply_add(a.low, b.low, sum.low), multiply_add(a.high, b.high, sum.high)};
}
template <int kLanes>
NEMO_INLINE IntVec<kLanes> dot_pairs(const IntVec<kLanes>& sum, const IntVec<kLanes>& pairs,
                                     int32_t x) {
    if constexpr (kLanes == kNativeLanes)
        return {dot_pairs_native(sum.v, pairs.v, x)};
    else
        return {dot_pairs(sum.low, pairs.low, x), dot_pairs(sum.high, pairs.high, x)};
}
// Of integer scales: sum * d (+ min_sum * -d_min).
template <bool kHasMin>
NEMO_INLINE Vec16 scaled_group(const IntVec<16>& sum, const IntVec<16>& min_sum, const float* d,
                               const float* negative_d_min) {
    if constexpr (kHasMin)
        return fma(to_float(sum), load(d), to_float(min_sum) * load(negative_d_min));
    else
        return to_float(sum) * load(d);
}
