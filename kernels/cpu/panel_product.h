// Products of block-format weights with many tokens, as int8 x int8.
//
// 64 rows of weights are expanded to an int8 panel, 256 columns at a time, which then meets all
// tokens in register tiles of 6 while it is in the first-level cache: the mapped file is read and
// decoded once per call, and no repacked copy of it exists. The results are those of strips
// (matmul.h), bit for bit. Activations are quantized and packed once per call (packed_tokens.h), or
// already by the norm or the product that makes them, tile by tile while they are in cache.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/packed_tokens.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace nemo {

class PanelProduct {
public:
    explicit PanelProduct(int n_threads) : threads_(static_cast<size_t>(n_threads)) {}

    // y [n_tokens, n_out] = W x (+ bias, or null), then the epilogue; as Backend::matmul. The
    // tokens are rows order[0], order[1], ... of x (empty: 0, 1, ...).
    void run(const TierOps& ops, ThreadPool& pool, QuantFormat format, const Weight& weight,
             const float* x, int64_t n_tokens, const float* bias, Epilogue epilogue, float* y,
             std::span<const int64_t> order = {});

    // In two steps: tokens are packed for weights of a format, then multiplied any number of times,
    // until others are packed. What is packed where it is made is neither written to memory nor
    // read back. Same bits as run.

    static bool can_pack(int64_t n_tokens) { return n_tokens <= kMostTokens; }
    int64_t n_packed() const { return packed_.n_tokens(); }
    void pack(const TierOps& ops, ThreadPool& pool, QuantFormat format, const float* x,
              int64_t n_tokens, int64_t n, std::span<const int64_t> order = {});
    // Of rows that are made only for this; calls may run at once.
    using MakeRow = std::function<void(int64_t token, float* row)>;
    void pack_made(const TierOps& ops, ThreadPool& pool, QuantFormat format, int64_t n_tokens,
                   int64_t n, const MakeRow& make);
    void multiply_packed(const TierOps& ops, ThreadPool& pool, const Weight& weight,
                         const float* bias, Epilogue epilogue, float* y);
    // Packs the results instead, for weights of the format `next`, where no epilogue needs the old
    // ones.
    static bool can_pack_results(int64_t n_out, int n_threads);
    void multiply_and_pack(const TierOps& ops, ThreadPool& pool, const Weight& weight,
                           const float* bias, Epilogue epilogue, QuantFormat next);

private:
    // Tokens that meet a panel before it is expanded again; their sums take 129 KB.
    static constexpr int64_t kMostTokens = 86 * kTileWidth;

    struct ThreadScratch {
        ScratchBuffer<float> rows;  // of a tile
        ScratchBuffer<unsigned char> panel;
        ScratchBuffer<float> panel_scales;
        ScratchBuffer<float> sums;  // [panels][tokens][64]
    };
    // Where the products of the packed tokens go: y of the first of them, or `keep`.
    struct Target {
        const Weight& weight;
        const float* bias;
        Epilogue epilogue;
        int64_t n_tokens;
        float* y;
        PackedTokens* keep;
    };
    static int64_t panels_per_piece(int64_t n_out, int n_threads);
    void pack_tile(const TierOps& ops, int64_t tile, const float* (&rows)[kTileWidth]);
    void multiply(const TierOps& ops, ThreadPool& pool, const Target& target);
    // Rows [first_row, first_row + 64 * n_panels).
    static void multiply_panels(const TierOps& ops, const PackedTokens& in, const Target& target,
                                int64_t first_row, int64_t n_panels, ThreadScratch& scratch);
    static void fetch_target(const Target& target, int64_t first_row, int64_t tile);
    // sums [tokens][64] of a tile.
    static void store_tile(const TierOps& ops, const Target& target, int64_t first_row,
                           int64_t first_token, const float* sums, float* y, int64_t y_stride);
    // Of all panels of a piece; `sums`: of the first one.
    static void keep_tile(const TierOps& ops, const Target& target, int64_t first_row,
                          int64_t n_panels, int64_t tile, const float* sums);

    PackedTokens packed_, results_;
    std::vector<int64_t> pieces_;  // first panels, and the end
    std::vector<ThreadScratch> threads_;
};

}  // namespace nemo
