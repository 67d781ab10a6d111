// Scores against Q8_0 keys (kernels/cpu/attention_jobs.h): exact sums of integer products, by the
// same code for few and for many queries. A slice of rows is turned so that a vector's lanes are
// rows; every query's codes are then broadcast. A tier file defines before
//   kKeyVectors (dividing kSliceRows / kNativeLanes), kKeyQueries: sizes of the register block,
//   without influence on results; NativeI, NativeWords: vectors of int32 and of int16;
//   dot_pairs_native(NativeI sums, NativeI pairs, int32_t x): + the two products of every lane's
//   words; load_parts_native(const unsigned char* p, int64_t stride): 16 bytes each from p,
//   p + stride ...; transpose_parts_native(NativeI v[4]): of 4 x 4 dwords in every part of
//   16 bytes.

// ---- queries

// The codes of four values in two dwords of words: those of values 0 and 2, of values 1 and 3. They
// meet the even and the odd bytes of four codes of a key.
void quantize_query(const float* x, int64_t dim, int32_t* pairs, float* factor) {
    constexpr float kMostCode = 32767.0f, kSmallest = 1e-30f;
    constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
    const auto larger = [](NativeF a, NativeF b) { return a > b ? a : b; };
    Vec16 most = splat(0.0f), zeros = splat(0.0f);
    for (int64_t c = 0; c < dim; c += 16) {
        const Vec16 values = load(x + c);
        most = map<16>(larger, map<16>(absolute, values), most);
        zeros = fma(values, splat(0.0f), zeros);
    }
    float lanes[16], largest = 0.0f;
    store(lanes, most);
    for (const float lane : lanes) largest = lane > largest ? lane : largest;
    // NaN where a value is not finite: `zeros` is not zero then.
    *factor = largest * (1.0f / kMostCode) + sum(zeros);

    const Vec16 inverse = splat(largest < kSmallest ? 0.0f : kMostCode / largest);
    for (int64_t c = 0; c < dim; c += 16, pairs += 8) {
        uint32_t codes[16];
        store(lanes, load(x + c) * inverse + splat(kRound));
        __builtin_memcpy(codes, lanes, sizeof codes);
        for (int i = 0; i < 8; ++i) {
            const uint32_t* pair = codes + i / 2 * 4 + i % 2;
            pairs[i] = static_cast<int32_t>((pair[0] & 0xffff) | pair[2] << 16);
        }
    }
}

// ---- keys

// Fetched ahead (ahead_of): of a block's 17 lines of a slice turning fetches eight, the products
// the rest.
struct LinesAhead {
    const unsigned char* at;

    template <int kLines>
    NEMO_INLINE_MEMBER void fetch() {
#pragma GCC unroll 16
        for (int i = 0; i < kLines; ++i) __builtin_prefetch(at + 64 * i, 0, 2);
        at += 64 * kLines;
    }
};
constexpr int kFetchedByTurning = 8 / (kSliceRows / kNativeLanes), kFetchedByDots = 9;

// The codes of a block's columns as words: [4 columns][even, odd bytes][kSliceRows].
NEMO_INLINE void turn_block(const unsigned char* block, int64_t row_bytes, LinesAhead& ahead,
                            int32_t* words) {
    for (int first = 0; first < kSliceRows; first += kNativeLanes) {
        const unsigned char* codes = block + 2 + first * row_bytes;
#pragma GCC unroll 8
        for (int c = 0; c < 8; c += 4) {
            NativeI dwords[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i)
                dwords[i] = load_parts_native(codes + 4 * c + i * row_bytes, 4 * row_bytes);
            transpose_parts_native(dwords);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                const auto bytes = reinterpret_cast<NativeWords>(dwords[i]);
                const NativeWords even = bytes << 8 >> 8, odd = bytes >> 8;
                int32_t* place = words + (c + i) * 2 * kSliceRows + first;
                __builtin_memcpy(place, &even, sizeof even);
                __builtin_memcpy(place + kSliceRows, &odd, sizeof odd);
            }
        }
        ahead.fetch<kFetchedByTurning>();
    }
}

struct TurnedKeys {
    const int32_t* words;  // [dim / 4][even, odd][kSliceRows]
    const float* factors;  // [dim / 32][kSliceRows]
};

// Of kQueries queries from `query` on and all rows of the slice.
template <int kQueries>
NEMO_INLINE void score_turned(const ScoreCodesJob& job, const TurnedKeys& keys, int64_t query,
                              LinesAhead& ahead, float* scores) {
    constexpr int kRows = kKeyVectors * kNativeLanes;
    const int64_t dim = job.from.dim;
    for (int first = 0; first < kSliceRows; first += kRows) {
        const int32_t* words = keys.words + first;
        const float* factors = keys.factors + first;
        const int32_t* pairs = job.pairs + query * (dim / 2);
        NativeF sums[kQueries][kKeyVectors] = {};
        for (int64_t c = 0; c < dim; c += 32, factors += kSliceRows) {
            if (query + first == 0) ahead.fetch<kFetchedByDots>();
            // Apart, so that more additions are under way at a time.
            NativeI even[kQueries][kKeyVectors] = {}, odd[kQueries][kKeyVectors] = {};
            for (int i = 0; i < 8; ++i, words += 2 * kSliceRows, pairs += 2)
#pragma GCC unroll 8
                for (int v = 0; v < kKeyVectors; ++v) {
                    NativeI evens, odds;
                    __builtin_memcpy(&evens, words + v * kNativeLanes, sizeof evens);
                    __builtin_memcpy(&odds, words + kSliceRows + v * kNativeLanes, sizeof odds);
#pragma GCC unroll 8
                    for (int q = 0; q < kQueries; ++q) {
                        const int32_t* x = pairs + q * (dim / 2);
                        even[q][v] = dot_pairs_native(even[q][v], evens, x[0]);
                        odd[q][v] = dot_pairs_native(odd[q][v], odds, x[1]);
                    }
                }
#pragma GCC unroll 8
            for (int v = 0; v < kKeyVectors; ++v) {
                NativeF factor;
                __builtin_memcpy(&factor, factors + v * kNativeLanes, sizeof factor);
#pragma GCC unroll 8
                for (int q = 0; q < kQueries; ++q)
                    sums[q][v] =
                        fma_native(__builtin_convertvector(even[q][v] + odd[q][v], NativeF), factor,
                                   sums[q][v]);
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
            for (int v = 0; v < kKeyVectors; ++v) {
                const NativeF result = sums[q][v] * job.factors[query + q];
                __builtin_memcpy(scores + q * job.scores_stride + first + v * kNativeLanes, &result,
                                 sizeof result);
            }
    }
}

template <int kDim>
NEMO_INLINE void score_slices(ScoreCodesJob job) {
    const CacheRows from = job.from = known_rows<Q8CacheRow, kDim>(job.from);
    const int64_t n_blocks = from.dim / 32;
    float* factors = job.scratch;
    auto* words = reinterpret_cast<int32_t*>(job.scratch + n_blocks * kSliceRows);
    auto* halves = reinterpret_cast<uint16_t*>(words + 16 * n_blocks * kSliceRows);
    for (int64_t r = 0; r < from.n_rows; r += kSliceRows) {
        const unsigned char* rows = from.rows + r * from.row_bytes;
        LinesAhead ahead = {ahead_of(from, r, job.next)};
        copy_factors(rows, from.row_bytes, kSliceRows, n_blocks, halves);
        for (int64_t b = 0; b < n_blocks; ++b)
            turn_block(rows + b * Q8CacheRow::kBlockBytes, from.row_bytes, ahead,
                       words + 16 * b * kSliceRows);
        widen_factors(halves, n_blocks * kSliceRows, factors);
        in_blocks<kKeyQueries>(
            job.n_queries, [&](auto count, int64_t query) __attribute__((always_inline)) {
                score_turned<count.value>(job, {words, factors}, query, ahead,
                                          job.scores + query * job.scores_stride + r);
            });
    }
}

void score_codes(const ScoreCodesJob& job) {
    if (job.from.dim == kUsualDim)
        score_slices<kUsualDim>(job);
    else
        score_slices<kAnyDim>(job);
}
