// Attention (kernels/cpu/attention_jobs.h). A tier file defines before
//   kScoreRows (dividing 16), kWeighVectors, kFewRows (even, dividing 16), kFewQueries: sizes of
//   the register blocks, without influence on results; load_i8_native(const void*): int8 as fp32;
//   sums_native(const NativeF* v): the sums of the lanes of kNativeLanes vectors, each in
//   sum_native's order; what kernels/cpu/tier_q8_keys.inl wants.

// ---- slices

// A block of a cache row.
struct Values32 {
    Vec16 low, high;
};

struct F32CacheRow {
    static constexpr int64_t kBlockBytes = 128;
    static constexpr bool kHasFactors = false;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block, const float* = nullptr) {
        const auto* values = reinterpret_cast<const float*>(block);
        return {load(values), load(values + 16)};
    }
};

struct F16CacheRow {
    static constexpr int64_t kBlockBytes = 64;
    static constexpr bool kHasFactors = false;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block, const float* = nullptr) {
        const auto load16 = [&](const unsigned char* p) {
            return generate<16>([&](int lane) { return load_f16_native(p + 2 * lane); });
        };
        return {load16(block), load16(block + 32)};
    }
};

// An F16 factor, then the codes.
struct Q8CacheRow {
    static constexpr int64_t kBlockBytes = 34;
    static constexpr bool kHasFactors = true;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block, const float* factor) {
        const Vec16 factors = splat(*factor);
        const auto load16 = [&](const unsigned char* p) {
            return factors * generate<16>([&](int lane) { return load_i8_native(p + lane); });
        };
        return {load16(block + 2), load16(block + 18)};
    }
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block) {
        // More bytes than the factor's two, but all inside the block.
        const float factor = load_f16_native(block)[0];
        return load32(block, &factor);
    }
};

// The factors of n_rows rows of Q8_0 in two steps, with something between them: many small stores
// are not seen by a large load as long as they are under way.
NEMO_INLINE void copy_factors(const unsigned char* rows, int64_t row_bytes, int64_t n_rows,
                              int64_t n_blocks, uint16_t* halves) {
    for (int64_t r = 0; r < n_rows; ++r, rows += row_bytes)
#pragma GCC unroll 4
        for (int64_t b = 0; b < n_blocks; ++b)
            __builtin_memcpy(halves + b * n_rows + r, rows + b * Q8CacheRow::kBlockBytes,
                             sizeof *halves);
}
// n, rounded up to a multiple of 16.
NEMO_INLINE void widen_factors(const uint16_t* halves, int64_t n, float* factors) {
    for (int64_t i = 0; i < n; i += 16)
        store(factors + i,
              generate<16>([&](int lane) { return load_f16_native(halves + i + lane); }));
}

// ---- common

// Rows as long as most models have them are worth their own code: addresses are constants then.
constexpr int kUsualDim = 128, kAnyDim = 0;
template <class Row, int kDim>
NEMO_INLINE CacheRows known_rows(CacheRows rows) {
    if constexpr (kDim != kAnyDim) {
        rows.dim = kDim;
        rows.row_bytes = kDim / 32 * Row::kBlockBytes;
    }
    return rows;
}

template <int kValue>
struct Constant {
    static constexpr int value = kValue;
};

// Calls function(Constant<size>, first) for blocks of kMost of n things, then for smaller ones.
template <int kMost, class Function>
NEMO_INLINE void in_blocks(int64_t n, Function function, int64_t first = 0) {
    for (; first + kMost <= n; first += kMost) function(Constant<kMost>{}, first);
    if constexpr (kMost > 1) in_blocks<kMost - 1>(n, function, first);
}

template <class Row>
void load_slice(const SliceJob& job) {
    const int64_t n_blocks = job.from.dim / 32;
    for (int64_t r = 0; r < job.from.n_rows; ++r) {
        const unsigned char* block = job.from.rows + r * job.from.row_bytes;
        if (job.next != nullptr)
            for (int64_t i = 0; i < job.from.row_bytes; i += 64)
                __builtin_prefetch(job.next + r * job.from.row_bytes + i);
        float* values = job.slice + 16 * r;
        for (int64_t i = 0; i < n_blocks; ++i) {
            const Values32 loaded = Row::load32(block);
            store(values, loaded.low);
            store(values + 16 * kSliceRows, loaded.high);
            block += Row::kBlockBytes;
            values += 32 * kSliceRows;
        }
    }
}

// ---- scores

// Halves are added until one register is left.
template <int kLanes>
NEMO_INLINE NativeF fold(const Vec<kLanes>& a) {
    if constexpr (kLanes == kNativeLanes) {
        return a.v;
    } else {
        const auto add = [](NativeF x, NativeF y) { return x + y; };
        return fold(map<kLanes / 2>(add, a.low, a.high));
    }
}

// Of 16 rows; each dot product is summed as `sum` does it.
NEMO_INLINE Vec16 score_16(const float* rows, const float* query, int64_t dim) {
    NativeF parts[16];
#pragma GCC unroll 16
    for (int first = 0; first < 16; first += kScoreRows) {
        Vec16 sums[kScoreRows];
        for (int r = 0; r < kScoreRows; ++r) sums[r] = splat(0.0f);
        const float* chunk = rows + 16 * first;
        for (int64_t c = 0; c < dim; c += 16, chunk += 16 * kSliceRows) {
            const Vec16 x = load(query + c);
#pragma GCC unroll 16
            for (int r = 0; r < kScoreRows; ++r) sums[r] = fma(load(chunk + 16 * r), x, sums[r]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < kScoreRows; ++r) parts[first + r] = fold(sums[r]);
    }
    return generate<16>([&](int lane) { return sums_native(parts + lane); });
}

void score_rows(const ScoreJob& job) {
    for (int64_t i = 0; i < job.n_queries; ++i)
        for (int64_t r = 0; r < job.n_rows; r += 16)
            store(job.scores + i * job.scores_stride + r,
                  score_16(job.slice + 16 * r, job.queries + i * job.dim, job.dim));
}

// What few queries fetch while they read row number `row` of the job's: what lies rows_ahead rows
// behind it, or of what comes after the job's. A line or two with every block: all at once, the
// fetches would hold up the loads behind them. They go to the second-level cache, where more can be
// on their way; from there a row comes to the first level shortly before its turn.
NEMO_INLINE const unsigned char* ahead_of(const CacheRows& from, int64_t row,
                                          const unsigned char* next) {
    const int64_t ahead = row + rows_ahead(from.row_bytes);
    if (ahead < from.n_rows) return from.rows + ahead * from.row_bytes;
    return next != nullptr ? next + (ahead - from.n_rows) * from.row_bytes
                           : from.rows + row * from.row_bytes;
}
constexpr int kToFirstLevel = 3, kToSecondLevel = 2;  // as __builtin_prefetch counts
template <class Row, int kLevel>
NEMO_INLINE void fetch_block(const unsigned char* block) {
    for (int64_t i = 0; i < Row::kBlockBytes; i += 64) __builtin_prefetch(block + i, 0, kLevel);
}

// 16 rows from `row` on, with kQueries queries.
template <class Row, int kQueries>
NEMO_INLINE void score_few_16(const ScoreFewJob& job, int64_t row, int64_t first_query) {
    const CacheRows& from = job.from;
    const unsigned char* rows = from.rows + row * from.row_bytes;
    const unsigned char* ahead = ahead_of(from, row, job.next);
    const float* queries = job.queries + first_query * from.dim;
    NativeF parts[kQueries][16];
    for (int done = 0; done < 16; done += kFewRows) {
        int64_t offset = done * from.row_bytes;
        Vec16 sums[kQueries][kFewRows];
#pragma GCC unroll 8
        for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
            for (int r = 0; r < kFewRows; ++r) sums[q][r] = splat(0.0f);
        for (int64_t c = 0; c < from.dim; c += 32, offset += Row::kBlockBytes) {
            Values32 values[kFewRows];
#pragma GCC unroll 8
            for (int r = 0; r < kFewRows; ++r) {
                values[r] = Row::load32(rows + offset + r * from.row_bytes);
                fetch_block<Row, kToSecondLevel>(ahead + offset + r * from.row_bytes);
                fetch_block<Row, kToFirstLevel>(rows + offset + (r + kFewRows) * from.row_bytes);
            }
#pragma GCC unroll 8
            for (int q = 0; q < kQueries; ++q) {
                const Vec16 low = load(queries + q * from.dim + c);
                const Vec16 high = load(queries + q * from.dim + c + 16);
#pragma GCC unroll 8
                for (int r = 0; r < kFewRows; ++r)
                    sums[q][r] = fma(values[r].high, high, fma(values[r].low, low, sums[q][r]));
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
            for (int r = 0; r < kFewRows; ++r) parts[q][done + r] = fold(sums[q][r]);
    }
    for (int q = 0; q < kQueries; ++q)
        store(job.scores + (first_query + q) * job.scores_stride + row,
              generate<16>([&](int lane) { return sums_native(parts[q] + lane); }));
}

template <class Row, int kDim>
NEMO_INLINE void score_few_rows(ScoreFewJob job) {
    job.from = known_rows<Row, kDim>(job.from);
    for (int64_t row = 0; row < job.from.n_rows; row += 16)
        in_blocks<kFewQueries>(
            job.n_queries, [&](auto count, int64_t query) __attribute__((always_inline)) {
                score_few_16<Row, count.value>(job, row, query);
            });
}

template <class Row>
void score_few(const ScoreFewJob& job) {
    if (job.from.dim == kUsualDim)
        score_few_rows<Row, kUsualDim>(job);
    else
        score_few_rows<Row, kAnyDim>(job);
}

// ---- softmax

NEMO_INLINE float exp_one(float x) {
    return exp_native(NativeF{} + x)[0];
}

// Of n scores, a multiple of 16; a NaN is not the largest.
NEMO_INLINE float largest_of(const float* scores, int64_t n) {
    const auto larger = [](NativeF a, NativeF b) { return a > b ? a : b; };
    // Apart, so that they do not wait for each other.
    Vec16 most[4];
    for (Vec16& some : most) some = splat(-__builtin_inff());
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) most[k] = map<16>(larger, load(scores + i + 16 * k), most[k]);
    for (; i < n; i += 16) most[0] = map<16>(larger, load(scores + i), most[0]);
    float lanes[16];
    store(lanes,
          map<16>(larger, map<16>(larger, most[0], most[1]), map<16>(larger, most[2], most[3])));
#pragma GCC unroll 4
    for (int width = 8; width > 0; width /= 2)
#pragma GCC unroll 8
        for (int k = 0; k < width; ++k)
            lanes[k] = lanes[k + width] > lanes[k] ? lanes[k + width] : lanes[k];
    return lanes[0];
}

// A NaN makes the sum one.
SoftmaxPart exponentials(float* scores, int64_t n) {
    for (int64_t i = n; i % 16 != 0; ++i) scores[i] = -__builtin_inff();
    const float largest = largest_of(scores, (n + 15) / 16 * 16);
    const NativeF shift = NativeF{} + largest;
    Vec16 sums = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const Vec16 e = map<16>([&](NativeF v) { return exp_native(v - shift); }, load(scores + i));
        store(scores + i, e);
        sums = sums + e;
    }
    return {largest, sum(sums)};
}

void merge_parts(const float* sums, const SoftmaxPart& part, int64_t dim, float* total_sums,
                 SoftmaxPart& total) {
    const float largest = part.largest > total.largest ? part.largest : total.largest;
    const float old_factor = exp_one(total.largest - largest);
    const float new_factor = exp_one(part.largest - largest);
    total = {largest, total.sum * old_factor + part.sum * new_factor};
    const Vec16 old_factors = splat(old_factor), new_factors = splat(new_factor);
    for (int64_t c = 0; c < dim; c += 16)
        store(total_sums + c, fma(load(sums + c), new_factors, load(total_sums + c) * old_factors));
}

void divide_sums(const float* sums, float divisor, int64_t n, float* y) {
    const Vec16 inverse = splat(1.0f / divisor);
    for_each_16(n, [&](auto load_at, auto store_at) { store_at(y, load_at(sums) * inverse); });
}

// ---- weighted sums

template <int kVectors>
NEMO_INLINE void weigh_columns(const float* chunk, const float* weights, int64_t n_rows,
                               float* sums) {
    Vec16 totals[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) totals[v] = load(sums + 16 * v);
    for (int64_t r = 0; r < n_rows; ++r, chunk += 16) {
        const Vec16 weight = splat(weights[r]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v)
            totals[v] = fma(weight, load(chunk + 16 * kSliceRows * v), totals[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(sums + 16 * v, totals[v]);
}

void weigh_rows(const WeighJob& job) {
    for (int64_t i = 0; i < job.n_queries; ++i) {
        const float* weights = job.weights + i * job.weights_stride;
        float* sums = job.sums + i * job.dim;
        int64_t c = 0;
        for (; c + 16 * kWeighVectors <= job.dim; c += 16 * kWeighVectors)
            weigh_columns<kWeighVectors>(job.slice + c * kSliceRows, weights, job.n_rows, sums + c);
        for (; c < job.dim; c += 32)
            weigh_columns<2>(job.slice + c * kSliceRows, weights, job.n_rows, sums + c);
    }
}

// Some rows, at most a group, and what is fetched meanwhile.
struct WeighGroup {
    const unsigned char* rows;
    const unsigned char* ahead;  // moves on
    const float* factors;        // of Q8_0, of the columns' first block
    int64_t first;
    int64_t n_rows;
};

// 32 * kBlocks columns from `column` on, kQueries queries.
template <class Row, int kQueries, int kBlocks>
NEMO_INLINE void weigh_few_columns(const WeighFewJob& job, WeighGroup& group, int64_t column,
                                   int64_t first_query) {
    const int64_t dim = job.from.dim;
    const float* weights = job.weights + first_query * job.weights_stride + group.first;
    float* sums = job.sums + first_query * dim + column;
    const unsigned char* row = group.rows + column / 32 * Row::kBlockBytes;
    const float* factors = group.factors + column / 32 * kGroupRows;
    Vec16 totals[kQueries][2 * kBlocks];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * kBlocks; ++v) totals[q][v] = load(sums + q * dim + 16 * v);
    for (int64_t r = 0; r < group.n_rows; ++r, row += job.from.row_bytes) {
        Values32 values[kBlocks];
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks; ++b) {
            values[b] = Row::load32(row + b * Row::kBlockBytes, factors + (b * kGroupRows + r));
            fetch_block<Row, kToSecondLevel>(group.ahead + b * Row::kBlockBytes);
            fetch_block<Row, kToFirstLevel>(row + b * Row::kBlockBytes + 4 * job.from.row_bytes);
        }
        group.ahead += kBlocks * Row::kBlockBytes;
#pragma GCC unroll 8
        for (int q = 0; q < kQueries; ++q) {
            const Vec16 weight = splat(weights[q * job.weights_stride + r]);
#pragma GCC unroll 8
            for (int b = 0; b < kBlocks; ++b) {
                totals[q][2 * b] = fma(weight, values[b].low, totals[q][2 * b]);
                totals[q][2 * b + 1] = fma(weight, values[b].high, totals[q][2 * b + 1]);
            }
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * kBlocks; ++v) store(sums + q * dim + 16 * v, totals[q][v]);
}

template <class Row, int kQueries>
NEMO_INLINE void weigh_few_queries(const WeighFewJob& job, WeighGroup group, int64_t first_query) {
    int64_t c = 0;
    for (; c + 64 <= job.from.dim; c += 64)
        weigh_few_columns<Row, kQueries, 2>(job, group, c, first_query);
    if (c < job.from.dim) weigh_few_columns<Row, kQueries, 1>(job, group, c, first_query);
}

// A group stays in the first-level cache until all columns are done.
template <class Row, int kDim>
NEMO_INLINE void weigh_few_rows(WeighFewJob job) {
    const CacheRows from = job.from = known_rows<Row, kDim>(job.from);
    const int64_t n_groups = (from.n_rows + kGroupRows - 1) / kGroupRows;
    const int64_t group_bytes = kGroupRows * from.row_bytes;
    const int64_t n_blocks = from.dim / 32, n_factors = n_blocks * kGroupRows;
    auto* halves = reinterpret_cast<uint16_t*>(job.scratch + (n_factors + 15) / 16 * 16);
    if constexpr (Row::kHasFactors)
        copy_factors(from.rows, from.row_bytes, kGroupRows, n_blocks, halves);
    for (int64_t i = 0; i < n_groups; ++i) {
        const unsigned char* rows = from.rows + i * group_bytes;
        if constexpr (Row::kHasFactors) {
            widen_factors(halves, n_factors, job.scratch);
            if (i + 1 < n_groups)
                copy_factors(rows + group_bytes, from.row_bytes, kGroupRows, n_blocks, halves);
        }
        const int64_t n_left = from.n_rows - i * kGroupRows;
        const WeighGroup group = {.rows = rows,
                                  .ahead = ahead_of(from, i * kGroupRows, job.next),
                                  .factors = job.scratch,
                                  .first = i * kGroupRows,
                                  .n_rows = n_left < kGroupRows ? n_left : kGroupRows};
        in_blocks<kFewQueries>(
            job.n_queries, [&](auto count, int64_t query) __attribute__((always_inline)) {
                weigh_few_queries<Row, count.value>(job, group, query);
            });
    }
}

template <class Row>
void weigh_few(const WeighFewJob& job) {
    if (job.from.dim == kUsualDim)
        weigh_few_rows<Row, kUsualDim>(job);
    else
        weigh_few_rows<Row, kAnyDim>(job);
}

#include "kernels/cpu/tier_q8_keys.inl"

template <class Row>
constexpr CacheOps cache_ops() {
    return {.slice = load_slice<Row>, .score_few = score_few<Row>, .weigh_few = weigh_few<Row>};
}

constexpr AttentionOps attention_ops() {
    return {.f32 = cache_ops<F32CacheRow>(),
            .f16 = cache_ops<F16CacheRow>(),
            .q8_0 = {.slice = load_slice<Q8CacheRow>,
                     .score_few = nullptr,
                     .weigh_few = weigh_few<Q8CacheRow>},
            .score = score_rows,
            .weigh = weigh_rows,
            .quantize_query = quantize_query,
            .score_codes = score_codes,
            .exponentials = exponentials,
            .merge = merge_parts,
            .divide = divide_sums};
}
