// Super-blocks of 256: Q2_K to Q6_K and IQ4_XS. Layouts as in formats_k.cpp.
//
// Two levels: every sub-block first gets the best scale it could have; the super-block's fp16 scale
// follows from the largest of them; then both are improved in turn, each sub-block choosing the
// best of the integer scales around its wish, the super-block fitting its scale to all codes at
// once. A step is kept only if it lowers the error, so that the result is never worse than its
// start.

constexpr int kSuperBlock = 256;
constexpr int kRefinements = 2;

// Super-blocks of sub-blocks of L elements: 256/L lanes each, so one or two in a group.
template <int L, class Write>
NEMO_INLINE void for_super_blocks(const float* source, int64_t n, const float* importance,
                                  Write write) {
    constexpr int kSubs = kSuperBlock / L;
    Group<L> group;
    Codes<L> codes;
    for (int64_t i = 0; i < n; i += kLanes * L) {
        const int64_t n_blocks = (n - i) / L;
        load_group<L, kSubs>(source + i, importance == nullptr ? nullptr : importance + i, n_blocks,
                             group);
        write(group, codes, n_blocks < kLanes ? static_cast<int>(n_blocks) : kLanes);
    }
}

// ---------------------------------------------------------------- scales only

struct TwoLevelScale {
    Lanes super;   // as stored, in units of the group; the same in all lanes of a super-block
    Lanes factor;  // the sub-blocks' integers
};

// For every lane the best factor within one of the wish, or the current one.
template <class Book, int kLow, int kHigh, int L>
NEMO_INLINE Lanes choose_factors(const Group<L>& group, const Lanes& wish, TwoLevelScale& levels) {
    Lanes best_error = error_of<Book>(group, levels.super * levels.factor);
    const Lanes center = rounded(clamped(wish * reciprocal(levels.super), kLow, kHigh));
    for (const float step : {-1.0f, 0.0f, 1.0f}) {
        const Lanes factor = clamped(center + step, kLow, kHigh);
        const Lanes error = error_of<Book>(group, levels.super * factor);
        const IntLanes better = error < best_error;
        levels.factor = better ? factor : levels.factor;
        best_error = better ? error : best_error;
    }
    return best_error;
}

// The value of largest magnitude among the lanes of a super-block, with its sign.
template <int P>
NEMO_INLINE Lanes extremes_of_groups(const Lanes& values) {
    const Lanes largest = largest_of_groups<P>(magnitude(values));
    const Lanes positive = largest_of_groups<P>(values);
    return positive == largest ? largest : -largest;
}

// kLow ... kHigh: the integers a sub-block's factor can be; kLow reaches furthest.
template <class Book, int kLow, int kHigh, int L>
NEMO_INLINE TwoLevelScale fit_two_levels(const Group<L>& group, Grid grid) {
    constexpr int kSubs = kSuperBlock / L;
    Lanes wish = fit_scale<Book>(group, grid);
    TwoLevelScale levels = {};
    levels.super = as_stored(group, extremes_of_groups<kSubs>(wish) / static_cast<float>(kLow));
    Lanes error = choose_factors<Book, kLow, kHigh>(group, wish, levels);
    for (int i = 0; i < kRefinements; ++i) {
        const ScaleSums sums = scale_sums<Book>(group, reciprocal(levels.super * levels.factor));
        const Lanes xq = sums_of_groups<kSubs>(sums.xq * levels.factor);
        const Lanes qq = sums_of_groups<kSubs>(sums.qq * levels.factor * levels.factor);
        TwoLevelScale trial = {as_stored(group, xq * reciprocal(qq)), levels.factor};
        wish = sums.qq > 0.0f ? sums.xq / sums.qq : wish;
        const Lanes trial_error = choose_factors<Book, kLow, kHigh>(group, wish, trial);
        const IntLanes better = sums_of_groups<kSubs>(trial_error) < sums_of_groups<kSubs>(error);
        levels.super = better ? trial.super : levels.super;
        levels.factor = better ? trial.factor : levels.factor;
        error = better ? trial_error : error;
    }
    return levels;
}

// ---------------------------------------------------------------- scales and minimums

struct TwoLevelAffine {
    Lanes super;      // of scales, as stored, in units of the group
    Lanes super_min;  // of minimums
    Lanes factor;     // the sub-blocks' integers
    Lanes factor_min;

    NEMO_INLINE_MEMBER Affine affine() const { return {super * factor, -(super_min * factor_min)}; }
};

NEMO_INLINE TwoLevelAffine chosen(const IntLanes& first, const TwoLevelAffine& a,
                                  const TwoLevelAffine& b) {
    return {first ? a.super : b.super, first ? a.super_min : b.super_min,
            first ? a.factor : b.factor, first ? a.factor_min : b.factor_min};
}

// Integers 0 ... kTop for the scale and the minimum of each lane: the best of nine around the wish,
// or the current ones.
template <int kHigh, int kTop, int L>
NEMO_INLINE Lanes choose_factors(const Group<L>& group, const Affine& wish,
                                 TwoLevelAffine& levels) {
    Lanes best_error = error_of<kHigh>(group, levels.affine());
    const Lanes center = rounded(clamped(wish.scale * reciprocal(levels.super), 0, kTop));
    const Lanes center_min = rounded(clamped(-wish.offset * reciprocal(levels.super_min), 0, kTop));
    TwoLevelAffine trial = levels;
    for (const float step : {0.0f, -1.0f, 1.0f}) {
        for (const float step_min : {0.0f, -1.0f, 1.0f}) {
            trial.factor = clamped(center + step, 0, kTop);
            trial.factor_min = clamped(center_min + step_min, 0, kTop);
            const Lanes error = error_of<kHigh>(group, trial.affine());
            const IntLanes better = error < best_error;
            levels = chosen(better, trial, levels);
            best_error = better ? error : best_error;
        }
    }
    return best_error;
}

struct AffineSums {
    Lanes q, qq, x, xq, one;  // sums of weight times this
};

template <int kHigh, int L>
NEMO_INLINE AffineSums affine_sums(const Group<L>& group, const Affine& affine) {
    const Lanes inverse = reciprocal(affine.scale);
    AffineSums sums = {};
    for (int j = 0; j < L; ++j) {
        const Lanes q = rounded(clamped((group.x[j] - affine.offset) * inverse, 0, kHigh));
        const Lanes weighted = group.weight[j] * q;
        sums.q += weighted;
        sums.qq += weighted * q;
        sums.x += group.weight[j] * group.x[j];
        sums.xq += weighted * group.x[j];
        sums.one += group.weight[j];
    }
    return sums;
}

// Both super scales at once: least squares of x ~ super * (factor q) - super_min * factor_min.
template <int L>
NEMO_INLINE TwoLevelAffine refit_supers(const Group<L>& group, const AffineSums& sums,
                                        const TwoLevelAffine& levels) {
    constexpr int kSubs = kSuperBlock / L;
    const Lanes f = levels.factor, m = levels.factor_min;
    const Lanes a = sums_of_groups<kSubs>(sums.qq * f * f),
                b = sums_of_groups<kSubs>(sums.q * f * m),
                c = sums_of_groups<kSubs>(sums.one * m * m), e = sums_of_groups<kSubs>(sums.xq * f),
                g = sums_of_groups<kSubs>(sums.x * m);
    const Lanes determinant = a * c - b * b;
    const IntLanes solvable = determinant > 1e-6f * a * c;
    const Lanes super = solvable ? (e * c - g * b) / determinant : e * reciprocal(a);
    const Lanes super_min = solvable ? (b * e - a * g) / determinant : Lanes{};
    return {as_stored(group, larger(super, Lanes{})), as_stored(group, larger(super_min, Lanes{})),
            f, m};
}

// Where the codes leave it open the wish stays what it was.
NEMO_INLINE void refit_wish(const AffineSums& sums, Affine& wish) {
    const Lanes spread = sums.qq * sums.one - sums.q * sums.q;
    const IntLanes solvable = spread > 1e-6f * sums.qq * sums.one;
    const Lanes scale = (sums.xq * sums.one - sums.x * sums.q) / spread;
    const Lanes offset = (sums.x - scale * sums.q) / sums.one;
    wish.scale = solvable ? scale : wish.scale;
    wish.offset = solvable ? offset : wish.offset;
}

template <int kHigh, int kTop, int L>
NEMO_INLINE TwoLevelAffine fit_two_levels(const Group<L>& group, Grid grid) {
    constexpr int kSubs = kSuperBlock / L;
    Affine wish = fit_affine<kHigh, true>(group, grid);
    TwoLevelAffine levels = {};
    levels.super = as_stored(group, largest_of_groups<kSubs>(wish.scale) / kTop);
    levels.super_min = as_stored(group, largest_of_groups<kSubs>(-wish.offset) / kTop);
    Lanes error = choose_factors<kHigh, kTop>(group, wish, levels);
    for (int i = 0; i < kRefinements; ++i) {
        const AffineSums sums = affine_sums<kHigh>(group, levels.affine());
        TwoLevelAffine trial = refit_supers(group, sums, levels);
        refit_wish(sums, wish);
        const Lanes trial_error = choose_factors<kHigh, kTop>(group, wish, trial);
        const IntLanes better = sums_of_groups<kSubs>(trial_error) < sums_of_groups<kSubs>(error);
        levels = chosen(better, trial, levels);
        error = better ? trial_error : error;
    }
    return levels;
}

template <int kHigh, int L>
NEMO_INLINE void set_codes(const Group<L>& group, const Affine& affine, Codes<L>& codes) {
    const Lanes inverse = reciprocal(affine.scale);
    for (int j = 0; j < L; ++j)
        codes.set(j, rounded(clamped((group.x[j] - affine.offset) * inverse, 0, kHigh)));
}

// ---------------------------------------------------------------- storing

NEMO_INLINE int whole(const Lanes& values, int lane) {
    return static_cast<int>(values[lane]);
}

NEMO_INLINE std::byte as_byte(int value) {
    return static_cast<std::byte>(value & 255);
}

// Two bits of each code, as Q2_K and Q3_K keep them: element 128h + 32j + l in bits 2j of byte
// 32h + l.
NEMO_INLINE void store_pairs_of_bits(const uint8_t* q, std::byte* target) {
    for (int half = 0; half < 2; ++half)
        for (int l = 0; l < 32; ++l) {
            const uint8_t* p = q + 128 * half + l;
            target[32 * half + l] =
                as_byte((p[0] & 3) | ((p[32] & 3) << 2) | ((p[64] & 3) << 4) | ((p[96] & 3) << 6));
        }
}

// Eight 6-bit scales and minimums in 12 bytes.
NEMO_INLINE void store_six_bit_pairs(const Lanes& scales, const Lanes& mins, int first,
                                     std::byte* target) {
    for (int j = 0; j < 4; ++j) {
        const int scale = whole(scales, first + j), high_scale = whole(scales, first + j + 4);
        const int min = whole(mins, first + j), high_min = whole(mins, first + j + 4);
        target[j] = as_byte(scale | ((high_scale >> 4) << 6));
        target[j + 4] = as_byte(min | ((high_min >> 4) << 6));
        target[j + 8] = as_byte((high_scale & 15) | ((high_min & 15) << 4));
    }
}

// Low four bits of 256 codes: element 64p + l low, 64p + 32 + l high in byte 32p + l.
NEMO_INLINE void store_quarters(const uint8_t* q, std::byte* target) {
    for (int p = 0; p < 4; ++p)
        for (int l = 0; l < 32; ++l)
            target[32 * p + l] = as_byte((q[64 * p + l] & 15) | ((q[64 * p + 32 + l] & 15) << 4));
}

void encode_q2_k(const float* source, std::byte* target, int64_t n, const float* importance) {
    const Grid grid = {2.2f, 0.25f, 9};
    for_super_blocks<16>(source, n, importance, [&](const auto& group, auto& codes, int) {
        const TwoLevelAffine levels = fit_two_levels<3, 15>(group, grid);
        set_codes<3>(group, levels.affine(), codes);
        for (int sub = 0; sub < 16; ++sub)
            target[sub] = as_byte(whole(levels.factor, sub) | (whole(levels.factor_min, sub) << 4));
        store_pairs_of_bits(codes.of[0], target + 16);
        store_f16(levels.super[0] * group.unit[0], target + 80);
        store_f16(levels.super_min[0] * group.unit[0], target + 82);
        target += 84;
    });
}

void encode_q3_k(const float* source, std::byte* target, int64_t n, const float* importance) {
    const Grid grid = {2.6f, 0.2f, 12};
    using Book = WholeNumbers<-4, 3>;
    for_super_blocks<16>(source, n, importance, [&](const auto& group, auto& codes, int) {
        const TwoLevelScale levels = fit_two_levels<Book, -32, 31>(group, grid);
        set_codes<Book>(group, levels.super * levels.factor, codes);
        const uint8_t* q = codes.of[0];
        std::memset(target, 0, 32);
        for (int e = 0; e < kSuperBlock; ++e) target[e % 32] |= as_byte((q[e] >> 2) << (e / 32));
        store_pairs_of_bits(q, target + 32);
        std::memset(target + 96, 0, 12);
        for (int sub = 0; sub < 16; ++sub) {
            const int scale = whole(levels.factor, sub) + 32;
            target[96 + sub % 8] |= as_byte((scale & 15) << (sub < 8 ? 0 : 4));
            target[104 + sub % 4] |= as_byte((scale >> 4) << (2 * (sub / 4)));
        }
        store_f16(levels.super[0] * group.unit[0], target + 108);
        target += 110;
    });
}

void encode_q4_k(const float* source, std::byte* target, int64_t n, const float* importance) {
    const Grid grid = {13.8f, 0.3f, 9};
    for_super_blocks<32>(source, n, importance, [&](const auto& group, auto& codes, int n_lanes) {
        const TwoLevelAffine levels = fit_two_levels<15, 63>(group, grid);
        set_codes<15>(group, levels.affine(), codes);
        for (int first = 0; first < n_lanes; first += 8, target += 144) {
            store_f16(levels.super[first] * group.unit[first], target);
            store_f16(levels.super_min[first] * group.unit[first], target + 2);
            store_six_bit_pairs(levels.factor, levels.factor_min, first, target + 4);
            store_quarters(codes.of[first], target + 16);
        }
    });
}

void encode_q5_k(const float* source, std::byte* target, int64_t n, const float* importance) {
    const Grid grid = {30.0f, 0.3f, 9};
    for_super_blocks<32>(source, n, importance, [&](const auto& group, auto& codes, int n_lanes) {
        const TwoLevelAffine levels = fit_two_levels<31, 63>(group, grid);
        set_codes<31>(group, levels.affine(), codes);
        for (int first = 0; first < n_lanes; first += 8, target += 176) {
            const uint8_t* q = codes.of[first];
            store_f16(levels.super[first] * group.unit[first], target);
            store_f16(levels.super_min[first] * group.unit[first], target + 2);
            store_six_bit_pairs(levels.factor, levels.factor_min, first, target + 4);
            std::memset(target + 16, 0, 32);
            for (int e = 0; e < kSuperBlock; ++e)
                target[16 + e % 32] |= as_byte((q[e] >> 4) << (e / 32));
            store_quarters(q, target + 48);
        }
    });
}

void encode_q6_k(const float* source, std::byte* target, int64_t n, const float* importance) {
    const Grid grid = {30.0f, 0.3f, 10};
    using Book = WholeNumbers<-32, 31>;
    for_super_blocks<16>(source, n, importance, [&](const auto& group, auto& codes, int) {
        const TwoLevelScale levels = fit_two_levels<Book, -128, 127>(group, grid);
        set_codes<Book>(group, levels.super * levels.factor, codes);
        for (int half = 0; half < 2; ++half)
            for (int l = 0; l < 32; ++l) {
                const uint8_t* p = codes.of[0] + 128 * half + l;
                target[64 * half + l] = as_byte((p[0] & 15) | ((p[64] & 15) << 4));
                target[64 * half + 32 + l] = as_byte((p[32] & 15) | ((p[96] & 15) << 4));
                target[128 + 32 * half + l] = as_byte((p[0] >> 4) | ((p[32] >> 4) << 2) |
                                                      ((p[64] >> 4) << 4) | ((p[96] >> 4) << 6));
            }
        for (int sub = 0; sub < 16; ++sub) target[192 + sub] = as_byte(whole(levels.factor, sub));
        store_f16(levels.super[0] * group.unit[0], target + 208);
        target += 210;
    });
}

void encode_iq4_xs(const float* source, std::byte* target, int64_t n, const float* importance) {
    using Book = UnevenNumbers;
    for_super_blocks<32>(source, n, importance, [&](const auto& group, auto& codes, int n_lanes) {
        const TwoLevelScale levels = fit_two_levels<Book, -32, 31>(group, kUnevenGrid);
        set_codes<Book>(group, levels.super * levels.factor, codes);
        for (int first = 0; first < n_lanes; first += 8, target += 136) {
            store_f16(levels.super[first] * group.unit[first], target);
            uint32_t high = 0;
            std::memset(target + 4, 0, 4);
            for (int i = 0; i < 8; ++i) {
                const int scale = whole(levels.factor, first + i) + 32;
                high |= static_cast<uint32_t>(scale >> 4) << (2 * i);
                target[4 + i / 2] |= as_byte((scale & 15) << (4 * (i % 2)));
            }
            target[2] = as_byte(static_cast<int>(high));
            target[3] = as_byte(static_cast<int>(high >> 8));
            for (int i = 0; i < 8; ++i) store_nibbles<32>(codes.of[first + i], target + 8 + 16 * i);
        }
    });
}
