// Attention (kernels/cpu/attention_jobs.h). A tier file defines before
//   kScoreRows (dividing 16), kWeighVectors, kFewRows (even, dividing 16), kFewQueries: sizes of the
//   register blocks, without influence on results; load_i8_native(const void*): int8 as fp32;
//   sums_native(const NativeF* v): the sums of the lanes of kNativeLanes vectors, each in
//   sum_native's order.

// ---- slices

// A block of a cache row.
struct Values32 {
    Vec16 low, high;
};

struct F32CacheRow {
    static constexpr int64_t kBlockBytes = 128;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block) {
        const auto* values = reinterpret_cast<const float*>(block);
        return {load(values), load(values + 16)};
    }
};

struct F16CacheRow {
    static constexpr int64_t kBlockBytes = 64;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block) {
        const auto load16 = [&](const unsigned char* p) {
            return generate<16>([&](int lane) { return load_f16_native(p + 2 * lane); });
        };
        return {load16(block), load16(block + 32)};
    }
};

// An F16 factor, then the codes.
struct Q8CacheRow {
    static constexpr int64_t kBlockBytes = 34;
    static NEMO_INLINE_MEMBER Values32 load32(const unsigned char* block) {
        // More bytes than the factor's two, but all inside the block.
        const Vec16 factor = splat(load_f16_native(block)[0]);
        const auto load16 = [&](const unsigned char* p) {
            return factor * generate<16>([&](int lane) { return load_i8_native(p + lane); });
        };
        return {load16(block + 2), load16(block + 18)};
    }
};

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

// A block of what few queries fetch ahead.
template <class Row>
NEMO_INLINE void fetch_block(const unsigned char* block) {
    for (int64_t i = 0; i < Row::kBlockBytes; i += 64) __builtin_prefetch(block + i);
}

// Group `group` of both halves of the rows, with kQueries queries. Meanwhile the groups after them
// are fetched, a line with every block: all at once, the fetches would hold up the loads behind
// them.
template <class Row, int kQueries>
NEMO_INLINE void score_few_groups(const ScoreFewJob& job, int64_t group, int64_t first_query) {
    const CacheRows& from = job.from;
    const int64_t group_bytes = kGroupRows * from.row_bytes, half = from.n_rows / 2;
    const float* queries = job.queries + first_query * from.dim;
    const unsigned char *rows[2], *ahead[2];
    for (int h = 0; h < 2; ++h) {
        rows[h] = from.rows + h * half * from.row_bytes + group * group_bytes;
        ahead[h] = (group + 1) * kGroupRows < half ? rows[h] + group_bytes : job.next.groups[h];
        if (ahead[h] == nullptr) ahead[h] = rows[h];
    }
    NativeF parts[kQueries][2 * kGroupRows];
    for (int done = 0; done < kGroupRows; done += kFewRows / 2) {
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
                const int64_t place = offset + r / 2 * from.row_bytes;
                values[r] = Row::load32(rows[r % 2] + place);
                fetch_block<Row>(ahead[r % 2] + place);
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
            for (int r = 0; r < kFewRows; ++r)
                parts[q][r % 2 * kGroupRows + done + r / 2] = fold(sums[q][r]);
    }
    for (int q = 0; q < kQueries; ++q) {
        float scores[2 * kGroupRows];
        store(scores, generate<16>([&](int lane) { return sums_native(parts[q] + lane); }));
        float* first = job.scores + (first_query + q) * job.scores_stride + group * kGroupRows;
        __builtin_memcpy(first, scores, sizeof scores / 2);
        __builtin_memcpy(first + half, scores + kGroupRows, sizeof scores / 2);
    }
}

// The last n_queries < kQueries of the job.
template <class Row, int kQueries>
NEMO_INLINE void score_few_rest(const ScoreFewJob& job, int64_t group, int64_t n_queries) {
    if constexpr (kQueries > 1) {
        if (n_queries == kQueries - 1)
            score_few_groups<Row, kQueries - 1>(job, group, job.n_queries - n_queries);
        else
            score_few_rest<Row, kQueries - 1>(job, group, n_queries);
    }
}

template <class Row>
void score_few(const ScoreFewJob& job) {
    for (int64_t group = 0; group < job.from.n_rows / (2 * kGroupRows); ++group) {
        int64_t q = 0;
        for (; q + kFewQueries <= job.n_queries; q += kFewQueries)
            score_few_groups<Row, kFewQueries>(job, group, q);
        score_few_rest<Row, kFewQueries>(job, group, job.n_queries - q);
    }
}

// ---- softmax

NEMO_INLINE float exp_one(float x) {
    return exp_native(NativeF{} + x)[0];
}

// A NaN among the scores is not the largest, but makes the sum one.
SoftmaxPart exponentials(float* scores, int64_t n) {
    for (int64_t i = n; i % 16 != 0; ++i) scores[i] = -__builtin_inff();
    const auto larger = [](NativeF a, NativeF b) { return a > b ? a : b; };
    Vec16 most = load(scores);
    for (int64_t i = 16; i < n; i += 16) most = map<16>(larger, load(scores + i), most);
    float lanes[16];
    store(lanes, most);
    float largest = lanes[0];
    for (const float lane : lanes) largest = lane > largest ? lane : largest;

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
    Vec16 totals[kQueries][2 * kBlocks];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * kBlocks; ++v) totals[q][v] = load(sums + q * dim + 16 * v);
    for (int64_t r = 0; r < group.n_rows; ++r, row += job.from.row_bytes) {
        Values32 values[kBlocks];
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks; ++b) {
            values[b] = Row::load32(row + b * Row::kBlockBytes);
            fetch_block<Row>(group.ahead + b * Row::kBlockBytes);
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

template <class Row, int kQueries>
NEMO_INLINE void weigh_few_rest(const WeighFewJob& job, const WeighGroup& group,
                                int64_t n_queries) {
    if constexpr (kQueries > 1) {
        if (n_queries == kQueries - 1)
            weigh_few_queries<Row, kQueries - 1>(job, group, job.n_queries - n_queries);
        else
            weigh_few_rest<Row, kQueries - 1>(job, group, n_queries);
    }
}

// A group stays in the first-level cache until all columns are done. What is fetched meanwhile is
// the second group after it, in the order of memory.
template <class Row>
void weigh_few(const WeighFewJob& job) {
    const CacheRows& from = job.from;
    const int64_t n_groups = (from.n_rows + kGroupRows - 1) / kGroupRows;
    const int64_t group_bytes = kGroupRows * from.row_bytes;
    for (int64_t i = 0; i < n_groups; ++i) {
        const unsigned char* rows = from.rows + i * group_bytes;
        const unsigned char* ahead =
            i + 2 < n_groups ? rows + 2 * group_bytes : job.next.groups[i + 2 - n_groups];
        const int64_t n_left = from.n_rows - i * kGroupRows;
        const WeighGroup group = {.rows = rows,
                                  .ahead = ahead != nullptr ? ahead : rows,
                                  .first = i * kGroupRows,
                                  .n_rows = n_left < kGroupRows ? n_left : kGroupRows};
        int64_t q = 0;
        for (; q + kFewQueries <= job.n_queries; q += kFewQueries)
            weigh_few_queries<Row, kFewQueries>(job, group, q);
        weigh_few_rest<Row, kFewQueries>(job, group, job.n_queries - q);
    }
}

template <class Row>
constexpr CacheOps cache_ops() {
    return {.slice = load_slice<Row>, .score_few = score_few<Row>, .weigh_few = weigh_few<Row>};
}

constexpr AttentionOps attention_ops() {
    return {.f32 = cache_ops<F32CacheRow>(),
            .f16 = cache_ops<F16CacheRow>(),
            .q8_0 = cache_ops<Q8CacheRow>(),
            .score = score_rows,
            .weigh = weigh_rows,
            .exponentials = exponentials,
            .merge = merge_parts,
            .divide = divide_sums};
}
