// The inner loops of attention, by instruction tier (kernels/cpu/tier.h has the rules).
//
// For many queries they work on slices of 32 cache rows as fp32, in the order [dim / 16][32][16]:
// every address of an inner loop is then a constant away from one pointer. For few queries, which
// wait for memory, they work on the cache rows as they are. Both give the same bits. Keys in Q8_0
// meet queries in 16 bits, as integers: that takes half the time, and the rounding of the query
// counts for less than a hundredth of that of the keys. `dim` is a multiple of 32
// (kernels/kv_cache.h).
#pragma once

#include <cstdint>

namespace nemo {

constexpr int64_t kSliceRows = 32;
constexpr int64_t kGroupRows = 16;

// How far few queries fetch ahead: at least 8 KiB, a whole number of slices.
constexpr int64_t rows_ahead(int64_t row_bytes) {
    return (8191 / (kSliceRows * row_bytes) + 1) * kSliceRows;
}

struct CacheRows {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t dim;
};

// A slice from rows of a cache; its other rows are left as they are.
struct SliceJob {
    CacheRows from;
    const unsigned char* next;  // as many bytes that will be needed soon, or null
    float* slice;
};

// scores[i * scores_stride + r] = dot(query i, row r of the slice).
struct ScoreJob {
    const float* slice;
    int64_t n_rows;  // rounded up to a multiple of 16, rows and scores
    int64_t dim;
    const float* queries;  // [n_queries, dim]
    int64_t n_queries;
    float* scores;
    int64_t scores_stride;
};

// sums[i] += sum over rows r of weights[i * weights_stride + r] * row r of the slice, in order.
struct WeighJob {
    const float* slice;
    int64_t n_rows;
    int64_t dim;
    const float* weights;
    int64_t weights_stride;
    int64_t n_queries;
    float* sums;  // [n_queries, dim]
};

// The same from rows of a cache; n_rows is a multiple of 16.
struct ScoreFewJob {
    CacheRows from;
    // As many bytes as rows_ahead have that will be needed then, or null.
    const unsigned char* next;
    const float* queries;  // [n_queries, dim]
    int64_t n_queries;
    float* scores;
    int64_t scores_stride;
};
struct WeighFewJob {
    CacheRows from;
    const unsigned char* next;  // as in ScoreFewJob
    const float* weights;
    int64_t weights_stride;
    int64_t n_queries;
    float* sums;     // [n_queries, dim]
    float* scratch;  // [kSliceRows, dim]
};

// Scores of any number of queries against Q8_0 rows: the factor of the query times the sum over the
// blocks, in order, of factor of the block * sum of the products of the codes.
struct ScoreCodesJob {
    CacheRows from;  // n_rows, rounded up to a multiple of kSliceRows, is read and scored
    const unsigned char* next;  // as in ScoreFewJob
    const int32_t* pairs;       // [n_queries, dim / 2], by quantize_query
    const float* factors;       // [n_queries]
    int64_t n_queries;
    float* scores;
    int64_t scores_stride;
    float* scratch;  // [kSliceRows, dim]
};

// Of some of the scores s that a softmax is taken over: the largest, and the sum of
// exp(s - largest).
struct SoftmaxPart {
    float largest;
    float sum;
};

// Of one number format.
struct CacheOps {
    void (*slice)(const SliceJob& job);
    void (*score_few)(const ScoreFewJob& job);  // null for Q8_0
    void (*weigh_few)(const WeighFewJob& job);
};

struct AttentionOps {
    CacheOps f32;
    CacheOps f16;
    CacheOps q8_0;
    void (*score)(const ScoreJob& job);
    void (*weigh)(const WeighJob& job);
    // The codes of a query [dim], of 16 bits in an order of the tier's, and their factor: NaN if a
    // value is not finite.
    void (*quantize_query)(const float* query, int64_t dim, int32_t* pairs, float* factor);
    void (*score_codes)(const ScoreCodesJob& job);
    // Replaces n > 0 scores by exp(s - largest); those up to the next multiple of 16 by zeros.
    SoftmaxPart (*exponentials)(float* scores, int64_t n);
    // Adds the weighted sums [dim] of another part of the same softmax.
    void (*merge)(const float* sums, const SoftmaxPart& part, int64_t dim, float* total_sums,
                  SoftmaxPart& total);
    // y = sums / divisor, n values.
    void (*divide)(const float* sums, float divisor, int64_t n, float* y);
};

}  // namespace nemo
