// Blocks with their own scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, NVFP4. Layouts as in
// formats_block32.cpp, formats_nonlinear.cpp and formats_float4.cpp. `n` is the number of elements.

// Blocks of L elements, 16 at a time; write(group, lane count, target) encodes those.
template <int L, class Write>
NEMO_INLINE void for_block_groups(const float* source, int64_t n, const float* importance,
                                  Write write) {
    Group<L> group;
    for (int64_t i = 0; i < n; i += kLanes * L) {
        const int64_t n_blocks = (n - i) / L;
        load_group<L, 1>(source + i, importance == nullptr ? nullptr : importance + i, n_blocks,
                         group);
        write(group, n_blocks < kLanes ? static_cast<int>(n_blocks) : kLanes);
    }
}

// Codes of 4 bits: element j low, element j + L/2 high in byte j.
template <int L>
NEMO_INLINE void store_nibbles(const uint8_t* codes, std::byte* target) {
    for (int j = 0; j < L / 2; ++j)
        target[j] = static_cast<std::byte>((codes[j] & 15) | ((codes[j + L / 2] & 15) << 4));
}

NEMO_INLINE void store_fifth_bits(const uint8_t* codes, std::byte* target) {
    uint32_t bits = 0;
    for (int j = 0; j < 32; ++j) bits |= static_cast<uint32_t>(codes[j] >> 4) << j;
    std::memcpy(target, &bits, sizeof bits);
}

template <class Book, int L>
NEMO_INLINE void set_codes(const Group<L>& group, const Lanes& scale, Codes<L>& codes) {
    const Lanes inverse = reciprocal(scale);
    for (int j = 0; j < L; ++j) codes.set(j, Book::index(Book::nearest(group.x[j] * inverse)));
}

template <class Book, class Store>
NEMO_INLINE void encode_scaled(const float* source, std::byte* target, int64_t n,
                               const float* importance, Grid grid, int64_t block_bytes,
                               Store store) {
    for_block_groups<32>(source, n, importance, [&](const Group<32>& group, int n_lanes) {
        const Lanes scale = as_stored(group, fit_scale<Book>(group, grid));
        Codes<32> codes;
        set_codes<Book>(group, scale, codes);
        const Lanes full_scale = scale * group.unit;
        for (int lane = 0; lane < n_lanes; ++lane, target += block_bytes) {
            store_f16(full_scale[lane], target);
            store(codes.of[lane], target + 2);
        }
    });
}

template <int kHigh, class Store>
NEMO_INLINE void encode_affine(const float* source, std::byte* target, int64_t n,
                               const float* importance, Grid grid, int64_t block_bytes,
                               Store store) {
    for_block_groups<32>(source, n, importance, [&](const Group<32>& group, int n_lanes) {
        const Affine fit = fit_affine<kHigh, false>(group, grid);
        const Lanes scale = as_stored(group, fit.scale), offset = as_stored(group, fit.offset);
        const Lanes inverse = reciprocal(scale);
        Codes<32> codes;
        for (int j = 0; j < 32; ++j)
            codes.set(j, rounded(clamped((group.x[j] - offset) * inverse, 0, kHigh)));
        const Lanes full_scale = scale * group.unit, full_offset = offset * group.unit;
        for (int lane = 0; lane < n_lanes; ++lane, target += block_bytes) {
            store_f16(full_scale[lane], target);
            store_f16(full_offset[lane], target + 2);
            store(codes.of[lane], target + 4);
        }
    });
}

NEMO_INLINE void store_five_bits(const uint8_t* codes, std::byte* target) {
    store_fifth_bits(codes, target);
    store_nibbles<32>(codes, target + 4);
}

void encode_q4_0(const float* source, std::byte* target, int64_t n, const float* importance) {
    encode_scaled<WholeNumbers<-8, 7>>(source, target, n, importance, {6.2f, 0.2f, 15}, 18,
                                       store_nibbles<32>);
}

void encode_q4_1(const float* source, std::byte* target, int64_t n, const float* importance) {
    encode_affine<15>(source, target, n, importance, {14.0f, 0.3f, 9}, 20, store_nibbles<32>);
}

void encode_q5_0(const float* source, std::byte* target, int64_t n, const float* importance) {
    encode_scaled<WholeNumbers<-16, 15>>(source, target, n, importance, {14.8f, 0.2f, 13}, 22,
                                         store_five_bits);
}

void encode_q5_1(const float* source, std::byte* target, int64_t n, const float* importance) {
    encode_affine<31>(source, target, n, importance, {30.0f, 0.3f, 9}, 24, store_five_bits);
}

// The code -128 is left unused: kernels may negate codes.
void encode_q8_0(const float* source, std::byte* target, int64_t n, const float* importance) {
    const auto store = [](const uint8_t* codes, std::byte* bytes) {
        for (int j = 0; j < 32; ++j) bytes[j] = static_cast<std::byte>(codes[j] - 127);
    };
    encode_scaled<WholeNumbers<-127, 127>>(source, target, n, importance, {126.2f, 0.2f, 7}, 34,
                                           store);
}

void encode_iq4_nl(const float* source, std::byte* target, int64_t n, const float* importance) {
    encode_scaled<UnevenNumbers>(source, target, n, importance, kUnevenGrid, 18, store_nibbles<32>);
}

// ---------------------------------------------------------------- 4-bit floats

// The best of `n` scale codes from `first` on, by trying them all; scale_of(code) is what a code
// stands for. Returns the codes, and their scales in `scale`.
template <int L, class ScaleOf>
NEMO_INLINE Lanes best_scale_code(const Group<L>& group, const Lanes& first, int n, float highest,
                                  ScaleOf scale_of, Lanes& scale) {
    Lanes best_code = Lanes{}, best_error = splat(3e38f);
    scale = Lanes{};
    for (int i = 0; i < n; ++i) {
        const Lanes code = clamped(first + static_cast<float>(i), 0.0f, highest);
        const Lanes trial = scale_of(code) * group.inverse;
        const Lanes error = error_of<Float4>(group, trial);
        const IntLanes better = error < best_error;
        best_code = better ? code : best_code;
        best_error = better ? error : best_error;
        scale = better ? trial : scale;
    }
    return best_code;
}

template <int L>
NEMO_INLINE Lanes largest_magnitude(const Group<L>& group) {
    Lanes largest = Lanes{};
    for (int j = 0; j < L; ++j) largest = larger(largest, magnitude(group.x[j]));
    return largest;
}

// Exponent code e stands for 2^(e - 128) per unit of the doubled E2M1 values. Above 252 the largest
// of them would be infinite.
void encode_mxfp4(const float* source, std::byte* target, int64_t n, const float* importance) {
    const auto scale_of = [](const Lanes& code) {
        const IntLanes e = __builtin_convertvector(code, IntLanes);
        const IntLanes subnormal = (e + 1) * 0x00200000;
        return (Lanes)(e < 2 ? subnormal : (e - 1) << 23);
    };
    for_block_groups<32>(source, n, importance, [&](const Group<32>& group, int n_lanes) {
        // The scale whose 8 is the power of two below the largest value, and its two neighbours.
        const IntLanes exponent = (IntLanes)(largest_magnitude(group) * group.unit) >> 23;
        const Lanes first = __builtin_convertvector(exponent - 127 - 3 + 128 - 1, Lanes);
        Lanes scale;
        const Lanes code = best_scale_code(group, first, 3, 252.0f, scale_of, scale);
        Codes<32> codes;
        set_codes<Float4>(group, scale, codes);
        for (int lane = 0; lane < n_lanes; ++lane, target += 17) {
            target[0] = static_cast<std::byte>(static_cast<int>(code[lane]));
            store_nibbles<32>(codes.of[lane], target + 1);
        }
    });
}

// Scale codes are UE4M3, whose order is that of their values; 0x7F is not a number.
void encode_nvfp4(const float* source, std::byte* target, int64_t n, const float* importance) {
    constexpr float kHighest = 0x7e;
    // Half the E4M3 value: bias 7 to bias 127 by multiplication, exact, subnormals included.
    const auto scale_of = [](const Lanes& code) {
        return (Lanes)(__builtin_convertvector(code, IntLanes) << 20) * 0x1p119f;
    };
    for_block_groups<16>(source, n, importance, [&](const Group<16>& group, int n_lanes) {
        // The code just below the scale that maps the largest value to 6; three steps down to
        // seven up, which maps it to 4 and beyond.
        const Lanes ideal = smaller(largest_magnitude(group) * group.unit, splat(2688.0f)) / 6.0f;
        const IntLanes below = (IntLanes)(ideal * 0x1p-120f) >> 20;
        const Lanes first = __builtin_convertvector(below - 3, Lanes);
        Lanes scale;
        const Lanes code = best_scale_code(group, first, 11, kHighest, scale_of, scale);
        Codes<16> codes;
        set_codes<Float4>(group, scale, codes);
        for (int lane = 0; lane < n_lanes; ++lane) {
            std::byte* block = target + 36 * (lane / 4);
            block[lane % 4] = static_cast<std::byte>(static_cast<int>(code[lane]));
            store_nibbles<16>(codes.of[lane], block + 4 + 8 * (lane % 4));
        }
        target += 36 * (n_lanes / 4);
    });
}
