// The inner loops of attention, by instruction tier (kernels/cpu/tier.h has the rules).
//
// For many queries they work on slices of 32 cache rows as fp32, in the order [dim / 16][32][16]:
// every address of an inner loop is then a constant away from one pointer. For few queries, which
// wait for memory, they work on the cache rows as they are. Both give the same bits. `dim` is a
// multiple of 32 (kernels/kv_cache.h).
#pragma once

#include <cstdint>

namespace nemo {

constexpr int64_t kSliceRows = 32;
constexpr int64_t kGroupRows = 8;

struct CacheRows {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t dim;
};

// What few queries will read after these rows, to be fetched ahead: the two groups of kGroupRows
// rows that come first. Null: nothing.
struct NextRows {
    const unsigned char* groups[2];
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

// The same from rows of a cache; n_rows is a multiple of 16. The two halves of the rows are read
// side by side: memory answers two streams faster than one.
struct ScoreFewJob {
    CacheRows from;
    NextRows next;
    const float* queries;  // [n_queries, dim]
    int64_t n_queries;
    float* scores;
    int64_t scores_stride;
};
struct WeighFewJob {
    CacheRows from;
    NextRows next;
    const float* weights;
    int64_t weights_stride;
    int64_t n_queries;
    float* sums;  // [n_queries, dim]
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
    void (*score_few)(const ScoreFewJob& job);
    void (*weigh_few)(const WeighFewJob& job);
};

struct AttentionOps {
    CacheOps f32;
    CacheOps f16;
    CacheOps q8_0;
    void (*score)(const ScoreJob& job);
    void (*weigh)(const WeighJob& job);
    // Replaces n > 0 scores by exp(s - largest); those up to the next multiple of 16 by zeros.
    SoftmaxPart (*exponentials)(float* scores, int64_t n);
    // Adds the weighted sums [dim] of another part of the same softmax.
    void (*merge)(const float* sums, const SoftmaxPart& part, int64_t dim, float* total_sums,
                  SoftmaxPart& total);
    // y = sums / divisor, n values.
    void (*divide)(const float* sums, float divisor, int64_t n, float* y);
};

}  // namespace nemo
