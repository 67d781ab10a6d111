// Expansion of 64 rows to an int8 panel with one scale per group of columns, for products with many
// tokens. Panel: [columns/4][64 rows][4] unsigned bytes.
//
// Formats whose sub-blocks are not the group are rounded to int8 once more: with the largest
// magnitude that a row's sub-blocks can express as 127 steps, a code q becomes
//   (q * factor + shift) >> 8   in 16 bits, = weight / step + 128 rounded,
// factor = 256 scale_j / step, shift = 256 * (128.5 - min_j / step). Everything is 16-bit integer
// arithmetic after the two roundings, so that all tiers get the same codes.

// The nearest integer in the low 16 bits of both halves of each dword.
NEMO_INLINE void store_pairs(const Vec16& values, uint32_t* pairs) {
    alignas(64) float rounded[16];
    store(rounded, values + splat(0x1.8p23f));
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, rounded + i, sizeof bits);
        pairs[i] = (bits & 0xffffu) * 0x10001u;
    }
}

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

// Brings 16 rows of a group, as unpacked into the panel, to one scale. scale, negative_min: those
// of the group's sub-blocks, [sub][16]. Returns the group's scale.
template <QuantFormat kFormat>
NEMO_INLINE Vec16 requantize(unsigned char* codes, const float* scale, const float* negative_min) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    constexpr int kSub = kTraits.sub_columns, kSubs = kTraits.group / kSub;
    Vec16 largest = splat(0.0f);
    for (int j = 0; j < kSubs; ++j) {
        const Vec16 s = load(scale + j * kStripRows);
        if constexpr (kTraits.has_min) {
            const Vec16 m = load(negative_min + j * kStripRows);
            const Vec16 top = s * splat(static_cast<float>(kTraits.largest_code)) + m;
            largest = larger_magnitude(largest, larger_magnitude(top, m));
        } else {
            largest = larger_magnitude(largest, s * splat(static_cast<float>(kTraits.reach())));
        }
    }
    // Groups so small that the inverse overflows count as zero.
    const Vec16 inverse = map<16>(
        [](NativeF v) {
            const NativeF zero = {};
            return v > 0x1p-110f ? (zero + 127.0f * 256.0f) / v : zero;
        },
        largest);
    for (int j = 0; j < kSubs; ++j) {
        alignas(64) uint32_t factor[16], shift[16];
        store_pairs(load(scale + j * kStripRows) * inverse, factor);
        constexpr uint32_t kCenter = 0x80808080u;  // 128.5 * 256, twice
        if constexpr (kTraits.has_min) {
            store_pairs(load(negative_min + j * kStripRows) * inverse, shift);
            for (int i = 0; i < 16; ++i)
                shift[i] = (((shift[i] & 0xffffu) + kCenter) & 0xffffu) * 0x10001u;
        } else {
            for (int i = 0; i < 16; ++i)
                shift[i] = ((kCenter - factor[i] * kTraits.offset) & 0xffffu) * 0x10001u;
        }
        for (int i = 0; i < kSub; i += 4)
            requantize_vector(codes + (j * kSub + i) * kPanelRows, factor, shift);
    }
    return largest * splat(1.0f / 127.0f);
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
    constexpr int kGroup = kTraits.group, kSubs = kTraits.block_columns / kTraits.sub_columns;
    static_assert(kGroup == kTraits.block_columns);
    alignas(64) float scale[kSubs * kStripRows], negative_min[kSubs * kStripRows];
    for (int64_t v = 0; v < kPanelRows; v += kStripRows) {
        // Rows past the end repeat the last one: their results are not used.
        const int64_t first = v < job.n_rows ? v : job.n_rows - 1;
        const ListedRows rows =
            listed_rows(job.rows + first * job.row_bytes, job.row_bytes, job.n_rows - first);
        for (int64_t c = 0; c < job.n_columns; c += kGroup) {
            unsigned char* codes = job.panel + c * kPanelRows + v * 4;
            float* scales = job.scales + c / kGroup * kPanelRows + v;
            read_block<kFormat>(rows, (job.first_column + c) / kGroup * kTraits.block_bytes, codes,
                                kTraits.exact() ? scales : scale, negative_min);
            if constexpr (!kTraits.exact())
                store(scales, requantize<kFormat>(codes, scale, negative_min));
        }
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

// Codes of one group: x / d rounded to nearest, d = largest magnitude / 127. For 32 columns the
// scale has the precision of fp16, as llama.cpp's has: so two engines with the same weights round
// the same activations alike, where otherwise a tiny difference flips codes layer by layer.
// A NaN or infinity makes the scale one: it must reach the result, though codes cannot hold it.
NEMO_INLINE float quantize_group(const float* x, int64_t n, int8_t* codes, int32_t* sums) {
    Vec16 magnitudes = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) magnitudes = larger_magnitude(load(x + i), magnitudes);
    const float largest = largest_lane(magnitudes);
    const float d = largest / 127.0f;
    // Smaller values than 2^-126 have no finite inverse; they count as zero.
    const Vec16 inverse = splat(d >= 0x1p-126f ? 127.0f / largest : 0.0f);
    for (int64_t i = 0; i < n; i += 16)
        sums[i / 16] = store_codes(load(x + i) * inverse, codes + i);
    return n == 32 && d < __builtin_inff() ? round_to_11_bits(d) : d;
}

void quantize_row(const QuantizeJob& job) {
    for (int64_t g = 0; g < job.n; g += job.group)
        job.scale[g / job.group] =
            quantize_group(job.x + g, job.group, job.codes + g, job.sums + g / 16);
}
