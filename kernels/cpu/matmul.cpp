#include "kernels/cpu/matmul.h"

#include "quant/codec.h"

#include <algorithm>

namespace nemo {

namespace {

// About half of a second-level cache.
constexpr int64_t kCacheBytes = 512 * 1024;
// Tokens quantized by one piece of work.
constexpr int64_t kQuantizeGrain = 4;
// Rows decoded together: what the float kernels take at once.
constexpr int64_t kDecodedRows = 4;

// The job with its rows decoded to F32, a few at a time.
void dot_decoded(const DotPlan& plan, const TensorView& view, int64_t first_row, DotJob job,
                 TileScratch& scratch) {
    const int64_t n_rows = job.n_rows;
    float* const tile = job.tile;
    float* decoded = scratch.decoded.get(kDecodedRows * job.n);
    job.rows = reinterpret_cast<const unsigned char*>(decoded);
    job.row_bytes = job.n * static_cast<int64_t>(sizeof(float));
    for (int64_t r = 0; r < n_rows; r += kDecodedRows) {
        job.n_rows = std::min(kDecodedRows, n_rows - r);
        for (int64_t i = 0; i < job.n_rows; ++i)
            decode_row(view.dtype, view.row(first_row + r + i), decoded + i * job.n, job.n);
        job.tile = tile + r;
        plan.dot(job);
    }
}

}  // namespace

DotPlan plan_dot(const TierOps& ops, DType dtype) {
    switch (dtype) {
        case DType::f32:
            return {.dot = ops.dot_f32, .decode = false, .int8_offset = 0};
        case DType::f16:
            return {.dot = ops.dot_f16, .decode = false, .int8_offset = 0};
        case DType::bf16:
            return {.dot = ops.dot_bf16, .decode = false, .int8_offset = 0};
        case DType::q8_0:
            return {.dot = ops.dot_q8_0, .decode = false, .int8_offset = 128};
        case DType::q4_0:
            return {.dot = ops.dot_q4_0, .decode = false, .int8_offset = 8};
        default:
            return {.dot = ops.dot_f32, .decode = true, .int8_offset = 0};
    }
}

void DotInput::prepare(const TierOps& ops, ThreadPool& pool, const DotPlan& plan, const float* x,
                       int64_t n_tokens, int64_t n) {
    rows_ = row_memory_.get(n_tokens);
    const int64_t n_pairs = (n + 63) / 64;
    const int64_t row_bytes =
        plan.int8() ? n_pairs * static_cast<int64_t>(sizeof(ActivationPair)) : n * 4;
    tokens_per_block_ = std::clamp<int64_t>(kCacheBytes / row_bytes / 4 * 4, 4, kTileTokens);
    if (!plan.int8()) {
        for (int64_t t = 0; t < n_tokens; ++t) rows_[t] = x + t * n;
        return;
    }
    ActivationPair* pairs = pairs_.get(n_tokens * n_pairs);
    for (int64_t t = 0; t < n_tokens; ++t) rows_[t] = pairs + t * n_pairs;
    pool.parallel_for(n_tokens, kQuantizeGrain, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t)
            ops.quantize(x + t * n, n, plan.int8_offset, pairs + t * n_pairs);
    });
}

float* compute_tile(const DotPlan& plan, const Weight& weight, int64_t first_row, int64_t n_rows,
                    const void* const* x, int64_t n_tokens, TileScratch& scratch) {
    const TensorView& view = weight.view;
    float* tile = scratch.tile.get(kTileRows * kTileTokens);
    const DotJob job = {.rows = reinterpret_cast<const unsigned char*>(view.row(first_row)),
                        .row_bytes = view.row_bytes(),
                        .n_rows = n_rows,
                        .n = view.row_length(),
                        .x = x,
                        .n_tokens = n_tokens,
                        .tile = tile,
                        .tile_stride = kTileRows};
    if (plan.decode)
        dot_decoded(plan, view, first_row, job, scratch);
    else
        plan.dot(job);
    if (weight.scale != nullptr) {
        const float scale = weight.scale[first_row / view.dims[1]];
        for (int64_t t = 0; t < n_tokens; ++t)
            for (int64_t r = 0; r < n_rows; ++r) tile[t * kTileRows + r] *= scale;
    }
    return tile;
}

void store_tile(const float* tile, int64_t n_rows, int64_t n_tokens, const float* bias,
                Epilogue epilogue, float* y, int64_t y_stride) {
    for (int64_t t = 0; t < n_tokens; ++t, tile += kTileRows, y += y_stride) {
        for (int64_t r = 0; r < n_rows; ++r) {
            const float value = bias != nullptr ? tile[r] + bias[r] : tile[r];
            // NaN stays NaN: a broken model must not look healthy.
            const float positive = value < 0.0f ? 0.0f : value;
            switch (epilogue) {
                case Epilogue::store:
                    y[r] = value;
                    break;
                case Epilogue::add:
                    y[r] += value;
                    break;
                case Epilogue::relu2:
                    y[r] = positive * positive;
                    break;
            }
        }
    }
}

void multiply_rows(const DotPlan& plan, const Weight& weight, int64_t begin, int64_t end,
                   const DotInput& input, int64_t n_tokens, const float* bias, Epilogue epilogue,
                   float* y, int64_t y_stride, TileScratch& scratch) {
    const int64_t block = input.tokens_per_block();
    for (int64_t t = 0; t < n_tokens; t += block) {
        const int64_t n_block = std::min(block, n_tokens - t);
        const float* tile =
            compute_tile(plan, weight, begin, end - begin, input.rows() + t, n_block, scratch);
        store_tile(tile, end - begin, n_block, bias != nullptr ? bias + begin : nullptr, epilogue,
                   y + t * y_stride + begin, y_stride);
    }
}

}  // namespace nemo
