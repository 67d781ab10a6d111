// Expansion of 64 rows to a panel, for products with many tokens: the codes as they are,
// [columns/4] [64 rows][4], and rows of 64 floats. Per sub-block: scales; in formats with
// biased sums (QuantTraits) -kSumBias * scale; in formats with minimums those, negative. With
// integer scales per group: the scales of every sub-block as int32 below 2^16, so that the upper
// word is zero; pairs of minimums, if any (word_pair); d; -d_min, if any.

// Compared as integers, so that a NaN is the largest of all.
NEMO_INLINE Vec16 larger_magnitude(const Vec16& a, const Vec16& b) {
    return map<16>(
        [](NativeF x, NativeF y) {
            const NativeU p = reinterpret_cast<NativeU>(absolute(x));
            const NativeU q = reinterpret_cast<NativeU>(absolute(y));
            return reinterpret_cast<NativeF>(p > q ? p : q);
        },
        a, b);
}

NEMO_INLINE int32_t load_dword(const int8_t* p) {
    int32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}

// Pointers to 16 rows; past the last one it is repeated.
NEMO_INLINE ListedRows listed_rows(const unsigned char* first, int64_t row_bytes, int64_t n_rows) {
    ListedRows result;
    for (int64_t r = 0; r < kStripRows; ++r)
        result.rows[r] = first + (r < n_rows ? r : n_rows - 1) * row_bytes;
    return result;
}

template <QuantFormat kFormat>
void expand_panel(const PanelJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int64_t kColumns = kTraits.block_columns;
    constexpr int64_t kScales =
        kColumns / kTraits.group * kTraits.panel_rows_per_group() * kPanelRows;
    for (int64_t v = 0; v < kPanelRows; v += kStripRows) {
        // Rows past the end repeat the last one: their results are not used.
        const int64_t first = v < job.n_rows ? v : job.n_rows - 1;
        const ListedRows rows =
            listed_rows(job.rows + first * job.row_bytes, job.row_bytes, job.n_rows - first);
        for (int64_t b = 0; b < job.n_columns / kColumns; ++b)
            expand_block<kFormat>(rows, (job.first_column / kColumns + b) * kTraits.block_bytes,
                                  job.panel + b * kColumns * kPanelRows + v * 4,
                                  job.scales + b * kScales + v);
    }
}

// ---- activations

// The nearest value with 11 significant bits, ties to even.
NEMO_INLINE float round_to_11_bits(float value) {
    constexpr uint32_t kDropped = 13;
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits += (1u << (kDropped - 1)) - 1 + ((bits >> kDropped) & 1);
    bits &= ~((1u << kDropped) - 1);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

// x / d rounded to nearest, d = largest magnitude / 127. For 32 columns the scale has the precision
// of fp16, as llama.cpp's has: so two engines with the same weights round the same activations
// alike, where otherwise a tiny difference flips codes layer by layer. A NaN or infinity makes the
// scale one: it must reach the result, though codes cannot hold it.
struct GroupScale {
    float d;
    Vec16 inverse;
};
NEMO_INLINE GroupScale group_scale(const float* x, int64_t n) {
    Vec16 most = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        __builtin_prefetch(x + i + 1024);
        most = larger_magnitude(load(x + i), most);
    }
    const float largest = largest_lane(most);
    const float d = largest / 127.0f;
    // Smaller values than 2^-126 have no finite inverse; they count as zero.
    return {n == 32 && d < __builtin_inff() ? round_to_11_bits(d) : d,
            splat(d >= 0x1p-126f ? 127.0f / largest : 0.0f)};
}

void quantize_row(const QuantizeJob& job) {
    const float* x = job.x;
    GroupScale low, high;
    int64_t i = 0;
    for (; i + 64 <= job.n; i += 64) {
        if (job.group == 32) {
            low = group_scale(x + i, 32);
            high = group_scale(x + i + 32, 32);
            job.scale[i / 32] = low.d;
            job.scale[i / 32 + 1] = high.d;
        } else if (i % job.group == 0) {
            low = high = group_scale(x + i, job.group);
            job.scale[i / job.group] = low.d;
        }
        store_64_codes(x + i, low.inverse, high.inverse, job.codes + i, job.sums + i / 16,
                       job.magnitudes + i / 16);
    }
    if (i == job.n) return;
    low = group_scale(x + i, 32);
    job.scale[i / 32] = low.d;
    for (; i < job.n; i += 16)
        store_codes(load(x + i) * low.inverse, job.codes + i, job.sums + i / 16,
                    job.magnitudes + i / 16);
}
