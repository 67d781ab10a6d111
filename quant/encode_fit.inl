// The search for scales. All errors are sums of weight * (value - decoded)^2 per lane.
//
// For fixed codes the best scale is a weighted least-squares fit, so the search only has to find
// good codes: it rounds with a grid of trial scales around the one that maps the extreme value to
// the extreme code, fits each, and then repeats rounding and fitting from the best one.

// Trial scales: the extreme value lands `first`, `first + step`, ... code units from zero.
struct Grid {
    float first;
    float step;
    int n;
};

// For the uneven table, whose extremes are -127 and 113.
constexpr Grid kUnevenGrid = {95.0f, 5.0f, 9};

struct Fit {
    Lanes scale;
    Lanes gain;  // by how much the fit lowers the error below that of all zeros (or of the mean)
};

NEMO_INLINE void keep_better(Fit& best, const Lanes& scale, const Lanes& gain) {
    const IntLanes better = gain > best.gain;  // false for NaN
    best.scale = better ? scale : best.scale;
    best.gain = better ? gain : best.gain;
}

template <class Book, int L>
NEMO_INLINE Lanes error_of(const Group<L>& group, const Lanes& scale) {
    const Lanes inverse = reciprocal(scale);
    Lanes error = Lanes{};
    for (int j = 0; j < L; ++j) {
        const Lanes difference = group.x[j] - scale * Book::nearest(group.x[j] * inverse);
        error += group.weight[j] * difference * difference;
    }
    return error;
}

// Sums that decide the best scale for the codes that `inverse` rounds to.
struct ScaleSums {
    Lanes xq;  // of weight * x * q
    Lanes qq;  // of weight * q * q
};

template <class Book, int L>
NEMO_INLINE ScaleSums scale_sums(const Group<L>& group, const Lanes& inverse) {
    ScaleSums sums = {};
    for (int j = 0; j < L; ++j) {
        const Lanes q = Book::nearest(group.x[j] * inverse);
        const Lanes weighted = group.weight[j] * q;
        sums.xq += weighted * group.x[j];
        sums.qq += weighted * q;
    }
    return sums;
}

// x ~ scale * q. Both signs are tried: codebooks reach further on their negative side.
template <class Book, int L>
NEMO_INLINE Lanes fit_scale(const Group<L>& group, Grid grid) {
    Lanes extreme = Lanes{};
    for (int j = 0; j < L; ++j) extreme = larger(extreme, magnitude(group.x[j]));
    const Lanes per_unit = reciprocal(extreme);
    Fit best = {};
    const auto try_inverse = [&](const Lanes& inverse) {
        const ScaleSums sums = scale_sums<Book, L>(group, inverse);
        keep_better(best, sums.xq / sums.qq, sums.xq * sums.xq / sums.qq);
    };
    for (int i = 0; i < grid.n; ++i) {
        const Lanes inverse = per_unit * (grid.first + grid.step * static_cast<float>(i));
        try_inverse(inverse);
        try_inverse(-inverse);
    }
    for (int i = 0; i < 2; ++i) try_inverse(reciprocal(best.scale));
    return best.scale;
}

// ---------------------------------------------------------------- scale and offset

struct Affine {
    Lanes scale;
    Lanes offset;
};

template <int kHigh, int L>
NEMO_INLINE Lanes error_of(const Group<L>& group, const Affine& affine) {
    const Lanes inverse = reciprocal(affine.scale);
    Lanes error = Lanes{};
    for (int j = 0; j < L; ++j) {
        const Lanes q = rounded(clamped((group.x[j] - affine.offset) * inverse, 0, kHigh));
        const Lanes difference = group.x[j] - (affine.scale * q + affine.offset);
        error += group.weight[j] * difference * difference;
    }
    return error;
}

// What fitting an offset needs besides the codes.
struct Moments {
    Lanes weight;  // sum of weights
    Lanes mean;    // weighted mean of x
    Lanes low;     // least and largest value
    Lanes high;
};

template <int L>
NEMO_INLINE Moments moments_of(const Group<L>& group) {
    Moments moments = {Lanes{}, Lanes{}, group.x[0], group.x[0]};
    for (int j = 0; j < L; ++j) {
        moments.weight += group.weight[j];
        moments.mean += group.weight[j] * group.x[j];
        moments.low = smaller(moments.low, group.x[j]);
        moments.high = larger(moments.high, group.x[j]);
    }
    moments.mean /= moments.weight;
    return moments;
}

struct AffineFit {
    Affine best;
    Lanes gain;  // below the error of the mean
};

// Rounds to codes 0 ... kHigh as (x - shift) * inverse, fits, and keeps the fit if it is better.
// kNoPositiveOffset: K formats store the offset as minus a minimum >= 0.
template <int kHigh, bool kNoPositiveOffset, int L>
NEMO_INLINE void try_codes(const Group<L>& group, const Moments& moments, const Lanes& inverse,
                           const Lanes& shift, AffineFit& fit) {
    Lanes sum_q = Lanes{}, sum_qq = Lanes{}, sum_xq = Lanes{};  // x relative to the mean
    for (int j = 0; j < L; ++j) {
        const Lanes q = rounded(clamped((group.x[j] - shift) * inverse, 0, kHigh));
        const Lanes weighted = group.weight[j] * q;
        sum_q += weighted;
        sum_qq += weighted * q;
        sum_xq += weighted * (group.x[j] - moments.mean);
    }
    const Lanes spread = sum_qq - sum_q * sum_q / moments.weight;
    // Equal codes leave the scale open.
    Lanes scale = spread > 1e-6f * sum_qq ? sum_xq / spread : Lanes{};
    Lanes offset = moments.mean - scale * sum_q / moments.weight;
    Lanes gain = sum_xq * scale;
    if constexpr (kNoPositiveOffset) {
        const IntLanes stays = offset <= 0.0f;
        const Lanes through_zero = sum_xq + moments.mean * sum_q;  // x relative to 0
        const Lanes zero_gain =
            through_zero * through_zero / sum_qq - moments.weight * moments.mean * moments.mean;
        scale = stays ? scale : through_zero / sum_qq;
        gain = stays ? gain : zero_gain;
        offset = stays ? offset : Lanes{};
    }
    const IntLanes better = gain > fit.gain;
    fit.best.scale = better ? scale : fit.best.scale;
    fit.best.offset = better ? offset : fit.best.offset;
    fit.gain = better ? gain : fit.gain;
}

// x ~ scale * q + offset. The grid counts code units from the least to the largest value; codes
// that do not fit are cut off at the top, on both sides, or at the bottom.
template <int kHigh, bool kNoPositiveOffset, int L>
NEMO_INLINE Affine fit_affine(const Group<L>& group, Grid grid) {
    Moments moments = moments_of(group);
    const Lanes low = kNoPositiveOffset ? smaller(moments.low, Lanes{}) : moments.low;
    const Lanes range = moments.high - low;
    const Lanes per_unit = reciprocal(range);
    AffineFit fit = {{Lanes{}, kNoPositiveOffset ? smaller(moments.mean, Lanes{}) : moments.mean},
                     splat(-1e30f)};
    for (int i = 0; i < grid.n; ++i) {
        const float units = grid.first + grid.step * static_cast<float>(i);
        const Lanes inverse = per_unit * units;
        for (const float cut : {0.0f, 0.5f, 1.0f}) {
            const Lanes shift = low + range * (cut * (units - kHigh) / units);
            try_codes<kHigh, kNoPositiveOffset>(group, moments, inverse, shift, fit);
        }
    }
    for (int i = 0; i < 2; ++i)
        try_codes<kHigh, kNoPositiveOffset>(group, moments, reciprocal(fit.best.scale),
                                            fit.best.offset, fit);
    return fit.best;
}
