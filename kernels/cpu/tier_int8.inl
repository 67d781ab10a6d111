// Vectors of 16 sums of int8 products. A tier file defines before
//   NativeI: vector of kNativeLanes int32
//   NativeCodes, load_codes_native(const unsigned char*): 4 * kNativeLanes unsigned bytes
//   dot_native(NativeI, NativeCodes, int32_t): + the four products of every lane, exact

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
template <int kLanes>
NEMO_INLINE IntVec<kLanes> dot(const IntVec<kLanes>& sum, const Codes<kLanes>& codes, int32_t x) {
    if constexpr (kLanes == kNativeLanes)
        return {dot_native(sum.v, codes.v, x)};
    else
        return {dot(sum.low, codes.low, x), dot(sum.high, codes.high, x)};
}
template <int kLanes>
NEMO_INLINE Vec<kLanes> to_float(const IntVec<kLanes>& a) {
    if constexpr (kLanes == kNativeLanes)
        return {__builtin_convertvector(a.v, NativeF)};
    else
        return {to_float(a.low), to_float(a.high)};
}
