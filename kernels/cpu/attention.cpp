#include "kernels/cpu/attention.h"

#include "core/error.h"
#include "quant/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nemo {

namespace {

// Queries of a tile: many enough that loading a slice costs little, few enough that all that is
// kept of them stays in the second-level cache.
constexpr int64_t kTileQueries = 64;
constexpr int64_t kAppendGrain = 16;
// Pages whose parts of a softmax are put together before they meet those of others: a piece of work
// long enough to be read from memory in one go.
constexpr int64_t kSpanPages = 8;
// Span results of one call that are kept for a later merge.
constexpr int64_t kMostSpanBytes = int64_t{128} << 20;

// Queries of a tile up to which cache rows are read as they are.
constexpr int64_t kFewQueries = 8;

const CacheOps& cache_ops(const AttentionOps& ops, DType type) {
    if (type == DType::f32) return ops.f32;
    if (type == DType::f16) return ops.f16;
    NEMO_ASSERT(type == DType::q8_0);
    return ops.q8_0;
}

int64_t n_pages_of(const AttentionCall& call, int64_t n_tokens) {
    return (call.position + n_tokens + kKvPageRows - 1) / kKvPageRows;
}

int64_t n_spans_of(int64_t n_pages) {
    return (n_pages + kSpanPages - 1) / kSpanPages;
}

int64_t n_sharing(const AttentionShape& shape) {
    return shape.n_heads / shape.n_kv_heads;
}

int64_t tile_tokens(const AttentionShape& shape) {
    return std::max<int64_t>(1, kTileQueries / n_sharing(shape));
}

// A row with a value that is not finite becomes NaN in Q8_0, which has no such values: a broken
// model must not look healthy.
void encode_cache_row(const KvLayout& layout, const std::vector<float>& values, std::byte* row) {
    const auto finite = [](float value) { return std::isfinite(value); };
    if (layout.type == DType::q8_0 && !std::ranges::all_of(values, finite))
        std::memset(row, 0x7f, static_cast<size_t>(layout.row_bytes()));
    else
        encode_row(layout.type, values.data(), row, layout.padded_dim());
}

// Where the sums of a tile's queries go: head h of token t to place t * token_stride + h.
struct PartialResults {
    float* sums;  // [places, dim]
    SoftmaxPart* parts;
    int64_t token_stride;
};

// The query heads of K/V head `kv_head` of some tokens.
class QueryTile {
public:
    QueryTile(const AttentionOps& ops, const AttentionCall& call, int64_t kv_head,
              int64_t first_token, Attention::ThreadScratch& scratch)
        : ops_(ops),
          call_(call),
          scratch_(scratch),
          kv_head_(kv_head),
          first_token_(first_token),
          n_tokens_(std::min(tile_tokens(call.shape), call.n_tokens - first_token)),
          n_sharing_(n_sharing(call.shape)),
          dim_(call.keys.layout.padded_dim()) {
        scale_queries();
        if (integer_keys()) quantize_queries();
    }

    int64_t n_tokens() const { return n_tokens_; }
    int64_t n_queries() const { return n_tokens_ * n_sharing_; }
    int64_t n_pages() const { return n_pages_of(call_, first_token_ + n_tokens_); }

    // The first of the tile's tokens that sees any row of the page.
    int64_t first_seeing(int64_t page) const {
        return std::max<int64_t>(0, page * kKvPageRows - call_.position - first_token_);
    }

    // The part of the softmax and of its weighted sum that a span of pages contributes.
    void attend_span(int64_t span, const PartialResults& results) {
        const int64_t first = span * kSpanPages, end = std::min(first + kSpanPages, n_pages());
        const PartialResults added = {scratch_.page_sums.get(n_queries() * dim_),
                                      scratch_.page_parts.get(n_queries()), n_sharing_};
        for (int64_t page = first; page < end; ++page) {
            attend_page(page, page + 1 < end, page == first ? results : added);
            if (page > first) merge(page, added, results);
        }
    }

    // Adds what was computed from rows behind the start of `page`.
    void merge(int64_t page, const PartialResults& added, const PartialResults& total) const {
        for (int64_t t = first_seeing(page); t < n_tokens_; ++t)
            for (int64_t h = 0; h < n_sharing_; ++h) {
                const int64_t from = t * added.token_stride + h, to = t * total.token_stride + h;
                ops_.merge(added.sums + from * dim_, added.parts[from], dim_,
                           total.sums + to * dim_, total.parts[to]);
            }
    }

    float* output(int64_t token, int64_t head) const {
        return call_.y + (first_token_ + token) * call_.shape.q_dim() +
               (kv_head_ * n_sharing_ + head) * call_.shape.head_dim;
    }

private:
    // `read_on`: the next page will be asked for next.
    void attend_page(int64_t page, bool read_on, const PartialResults& results) {
        const int64_t first = first_seeing(page);
        float* scores = scratch_.scores.get(n_queries() * kKvPageRows);
        score_page(page, scores);
        for (int64_t t = first; t < n_tokens_; ++t)
            for (int64_t h = 0; h < n_sharing_; ++h)
                results.parts[t * results.token_stride + h] = ops_.exponentials(
                    scores + (t * n_sharing_ + h) * kKvPageRows, rows_seen(page, t));
        weigh_page(page, read_on, scores, results);
    }

    // [n_queries, dim], so that scores need no scaling.
    void scale_queries() {
        const int64_t head_dim = call_.shape.head_dim;
        const float divisor = std::sqrt(static_cast<float>(head_dim));
        queries_ = scratch_.queries.get(n_queries() * dim_);
        for (int64_t i = 0; i < n_queries(); ++i) {
            const int64_t token = first_token_ + i / n_sharing_;
            const int64_t head = kv_head_ * n_sharing_ + i % n_sharing_;
            const float* q = call_.q + token * call_.shape.q_dim() + head * head_dim;
            float* scaled = queries_ + i * dim_;
            ops_.divide(q, divisor, head_dim, scaled);
            std::fill(scaled + head_dim, scaled + dim_, 0.0f);
        }
    }

    // Keys in Q8_0 meet integers, whatever the number of queries.
    bool integer_keys() const { return call_.keys.layout.type == DType::q8_0; }

    void quantize_queries() {
        pairs_ = scratch_.pairs.get(n_queries() * dim_ / 2);
        factors_ = scratch_.factors.get(n_queries());
        for (int64_t i = 0; i < n_queries(); ++i)
            ops_.quantize_query(queries_ + i * dim_, dim_, pairs_ + i * dim_ / 2, factors_ + i);
    }

    int64_t rows_seen(int64_t page, int64_t token) const {
        const int64_t n = call_.position + first_token_ + token + 1 - page * kKvPageRows;
        return std::min(n, kKvPageRows);
    }

    const unsigned char* rows_of(const KvCache& cache, int64_t page, int64_t row) const {
        return reinterpret_cast<const unsigned char*>(
            cache.row(page * kKvPageRows + row, kv_head_));
    }

    CacheRows cache_rows(const KvCache& cache, int64_t page, int64_t row, int64_t n_rows) const {
        return {.rows = rows_of(cache, page, row),
                .row_bytes = cache.layout.row_bytes(),
                .n_rows = n_rows,
                .dim = dim_};
    }

    const float* slice(const KvCache& cache, const CacheRows& from, const unsigned char* next) {
        float* values = scratch_.slice.get(kSliceRows * dim_);
        cache_ops(ops_, cache.layout.type).slice({.from = from, .next = next, .slice = values});
        return values;
    }

    bool few_queries() const { return n_queries() <= kFewQueries; }

    // Rows of the page that nobody sees yet are scored too, to no effect.
    int64_t rows_scored(int64_t page) const {
        return (rows_seen(page, n_tokens_ - 1) + 15) / 16 * 16;
    }

    void score_page(int64_t page, float* scores) {
        const int64_t query = first_seeing(page) * n_sharing_, n_rows = rows_scored(page);
        const float* queries = queries_ + query * dim_;
        scores += query * kKvPageRows;
        if (integer_keys()) {
            ops_.score_codes({.from = cache_rows(call_.keys, page, 0, n_rows),
                              .next = rows_of(call_.values, page, 0),
                              .pairs = pairs_ + query * dim_ / 2,
                              .factors = factors_ + query,
                              .n_queries = n_queries() - query,
                              .scores = scores,
                              .scores_stride = kKvPageRows,
                              .scratch = scratch_.slice.get(kSliceRows * dim_)});
            return;
        }
        if (few_queries()) {
            cache_ops(ops_, call_.keys.layout.type)
                .score_few({.from = cache_rows(call_.keys, page, 0, n_rows),
                            .next = rows_of(call_.values, page, 0),
                            .queries = queries,
                            .n_queries = n_queries() - query,
                            .scores = scores,
                            .scores_stride = kKvPageRows});
            return;
        }
        for (int64_t row = 0; row < n_rows; row += kSliceRows) {
            const bool last = row + kSliceRows >= n_rows;
            const unsigned char* next =
                last ? rows_of(call_.values, page, 0) : rows_of(call_.keys, page, row + kSliceRows);
            const CacheRows from =
                cache_rows(call_.keys, page, row, std::min(kSliceRows, n_rows - row));
            ops_.score({.slice = slice(call_.keys, from, next),
                        .n_rows = from.n_rows,
                        .dim = dim_,
                        .queries = queries,
                        .n_queries = n_queries() - query,
                        .scores = scores + row,
                        .scores_stride = kKvPageRows});
        }
    }

    void weigh_page(int64_t page, bool read_on, const float* scores,
                    const PartialResults& results) {
        for (int64_t t = first_seeing(page); t < n_tokens_; ++t)
            std::fill_n(results.sums + t * results.token_stride * dim_, n_sharing_ * dim_, 0.0f);
        if (few_queries())
            weigh_few(page, read_on, scores, results);
        else
            weigh_slices(page, read_on, scores, results);
    }

    void weigh_few(int64_t page, bool read_on, const float* scores, const PartialResults& results) {
        const unsigned char* next = read_on ? rows_of(call_.keys, page + 1, 0) : nullptr;
        for (int64_t t = first_seeing(page); t < n_tokens_; ++t)
            cache_ops(ops_, call_.values.layout.type)
                .weigh_few({.from = cache_rows(call_.values, page, 0, rows_seen(page, t)),
                            .next = next,
                            .weights = scores + t * n_sharing_ * kKvPageRows,
                            .weights_stride = kKvPageRows,
                            .n_queries = n_sharing_,
                            .sums = results.sums + t * results.token_stride * dim_,
                            .scratch = scratch_.slice.get(kSliceRows * dim_)});
    }

    void weigh_slices(int64_t page, bool read_on, const float* scores,
                      const PartialResults& results) {
        const int64_t n_rows = rows_seen(page, n_tokens_ - 1);
        for (int64_t row = 0; row < n_rows; row += kSliceRows) {
            const unsigned char* next = nullptr;
            if (row + kSliceRows < n_rows)
                next = rows_of(call_.values, page, row + kSliceRows);
            else if (read_on)
                next = rows_of(call_.keys, page + 1, 0);
            const CacheRows from =
                cache_rows(call_.values, page, row, std::min(kSliceRows, n_rows - row));
            const float* values = slice(call_.values, from, next);
            for (int64_t t = first_seeing(page); t < n_tokens_; ++t) {
                const int64_t n_seen = std::min(kSliceRows, rows_seen(page, t) - row);
                if (n_seen > 0)
                    ops_.weigh({.slice = values,
                                .n_rows = n_seen,
                                .dim = dim_,
                                .weights = scores + t * n_sharing_ * kKvPageRows + row,
                                .weights_stride = kKvPageRows,
                                .n_queries = n_sharing_,
                                .sums = results.sums + t * results.token_stride * dim_});
            }
        }
    }

    const AttentionOps& ops_;
    const AttentionCall& call_;
    Attention::ThreadScratch& scratch_;
    int64_t kv_head_;
    int64_t first_token_;
    int64_t n_tokens_;
    int64_t n_sharing_;
    int64_t dim_;
    float* queries_ = nullptr;
    int32_t* pairs_ = nullptr;
    float* factors_ = nullptr;
};

}  // namespace

void Attention::run(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call) {
    const AttentionShape& shape = call.shape;
    const int64_t n_spans = n_spans_of(n_pages_of(call, call.n_tokens));
    const int64_t tokens = tile_tokens(shape);
    const int64_t n_tiles = (call.n_tokens + tokens - 1) / tokens * shape.n_kv_heads;
    const int64_t n_span_bytes = n_spans * call.n_tokens * shape.n_heads *
                                 call.keys.layout.padded_dim() *
                                 static_cast<int64_t>(sizeof(float));
    const bool enough_tiles = pool.n_threads() == 1 || n_tiles >= 8 * pool.n_threads();
    if (enough_tiles || n_spans == 1 || n_span_bytes > kMostSpanBytes)
        run_by_tiles(ops, pool, call);
    else
        run_by_spans(ops, pool, call);
}

void Attention::run_by_tiles(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call) {
    const int64_t tokens = tile_tokens(call.shape), n_kv = call.shape.n_kv_heads;
    const int64_t n_tiles = (call.n_tokens + tokens - 1) / tokens * n_kv;
    pool.parallel_for(n_tiles, 1, [&](int64_t i, int64_t, int thread) {
        // The last tokens see most: their tiles go first, so that no thread is left with one.
        const int64_t index = n_tiles - 1 - i;
        ThreadScratch& scratch = threads_[static_cast<size_t>(thread)];
        QueryTile tile(ops, call, index % n_kv, index / n_kv * tokens, scratch);
        const int64_t n = tile.n_queries(), dim = call.keys.layout.padded_dim();
        const int64_t sharing = n_sharing(call.shape);
        float* sums = scratch.sums.get(2 * n * dim);
        SoftmaxPart* parts = scratch.parts.get(2 * n);
        const PartialResults total = {sums, parts, sharing};
        const PartialResults added = {sums + n * dim, parts + n, sharing};
        for (int64_t span = 0; span < n_spans_of(tile.n_pages()); ++span) {
            tile.attend_span(span, span == 0 ? total : added);
            if (span > 0) tile.merge(span * kSpanPages, added, total);
        }
        for (int64_t q = 0; q < n; ++q)
            ops.divide(total.sums + q * dim, total.parts[q].sum, call.shape.head_dim,
                       tile.output(q / sharing, q % sharing));
    });
}

void Attention::run_by_spans(const AttentionOps& ops, ThreadPool& pool, const AttentionCall& call) {
    const int64_t tokens = tile_tokens(call.shape), n_kv = call.shape.n_kv_heads;
    const int64_t n_heads = call.shape.n_heads, dim = call.keys.layout.padded_dim();
    const int64_t n_tiles = (call.n_tokens + tokens - 1) / tokens * n_kv;
    const int64_t n_spans = n_spans_of(n_pages_of(call, call.n_tokens));
    float* sums = span_sums_.get(n_spans * call.n_tokens * n_heads * dim);
    SoftmaxPart* parts = span_parts_.get(n_spans * call.n_tokens * n_heads);
    pool.parallel_for(n_spans * n_tiles, 1, [&](int64_t i, int64_t, int thread) {
        const int64_t span = i / n_tiles, kv_head = i % n_kv;
        const int64_t first_token = i % n_tiles / n_kv * tokens;
        QueryTile tile(ops, call, kv_head, first_token, threads_[static_cast<size_t>(thread)]);
        if (span >= n_spans_of(tile.n_pages())) return;
        const int64_t place =
            (span * call.n_tokens + first_token) * n_heads + kv_head * n_sharing(call.shape);
        tile.attend_span(span, {sums + place * dim, parts + place, n_heads});
    });
    pool.parallel_for(call.n_tokens * n_heads, 1, [&](int64_t i, int64_t, int) {
        const int64_t seen = n_spans_of(n_pages_of(call, i / n_heads + 1));
        const int64_t stride = call.n_tokens * n_heads;
        for (int64_t span = 1; span < seen; ++span)
            ops.merge(sums + (span * stride + i) * dim, parts[span * stride + i], dim,
                      sums + i * dim, parts[i]);
        ops.divide(sums + i * dim, parts[i].sum, call.shape.head_dim,
                   call.y + i * call.shape.head_dim);
    });
}

void append_rows(ThreadPool& pool, const float* rows, int64_t n_tokens, int64_t position,
                 const KvCache& cache) {
    const KvLayout& layout = cache.layout;
    const int64_t n_heads = layout.n_heads, head_dim = layout.head_dim;
    pool.parallel_for(n_tokens, kAppendGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<float> padded(static_cast<size_t>(layout.padded_dim()), 0.0f);
        for (int64_t t = begin; t < end; ++t)
            for (int64_t h = 0; h < n_heads; ++h) {
                std::copy_n(rows + (t * n_heads + h) * head_dim, head_dim, padded.begin());
                encode_cache_row(layout, padded, cache.row(position + t, h));
            }
    });
}

}  // namespace nemo
