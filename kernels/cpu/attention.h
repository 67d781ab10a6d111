// Attention over a key-value cache: blocked over its pages, with a softmax that is put together
// from those of the pages.
//
// A work item is a tile of queries (a few tokens, all query heads that share one K/V head) against
// a span of pages or, where there are enough tiles for all threads, against all spans in turn. The
// sums of a span's pages are merged in order, and so are those of the spans, in both cases; a
// query's part in a page depends on nothing but the page: the result has the same bits for any
// number of threads and tokens.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <vector>

namespace nemo {

// As Backend::attention.
struct AttentionCall {
    const AttentionShape& shape;
    const float* q;
    const KvCache& keys;
    const KvCache& values;
    int64_t position;
    int64_t n_tokens;
    float* y;
};

class Attention {
public:
    explicit Attention(int n_threads) : threads_(static_cast<size_t>(n_threads)) {}

    void run(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call);

    struct ThreadScratch {
        ScratchBuffer<float> queries;
        ScratchBuffer<int32_t> pairs;  // of quantized queries
        ScratchBuffer<float> factors;
        ScratchBuffer<float> scores;
        ScratchBuffer<float> slice;
        // Of a page, and of a span and all spans before it.
        ScratchBuffer<float> page_sums, sums;
        ScratchBuffer<SoftmaxPart> page_parts, parts;
    };

private:
    // Which threads do what.
    void run_by_tiles(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call);
    void run_by_spans(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call);

    std::vector<ThreadScratch> threads_;
    // Of all spans, for run_by_spans: [n_spans, n_tokens, n_heads].
    ScratchBuffer<float> span_sums_;
    ScratchBuffer<SoftmaxPart> span_parts_;
};

// Writes the rows of n_tokens tokens, [n_tokens, n_heads * head_dim], into a cache.
void append_rows(ThreadPool& pool, const float* rows, int64_t n_tokens, int64_t position,
                 const KvCache& cache);

}  // namespace nemo
