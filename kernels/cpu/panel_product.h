// Products of block-format weights with many tokens, as int8 x int8.
//
// 64 rows of weights are expanded to an int8 panel, 256 columns at a time, which then meets all
// tokens in register tiles of 6 while it is in the first-level cache: the mapped file is read and
// decoded once per call, and no repacked copy of it exists. The results are those of strips
// (matmul.h), bit for bit. Activations are quantized and packed
// once per call in the order in which tiles read them.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <algorithm>
#include <cstdint>
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

private:
    struct ThreadScratch {
        ScratchBuffer<unsigned char> panel;
        ScratchBuffer<float> panel_scales;
        ScratchBuffer<float> sums;  // [panels][tokens][64]
    };
    // Packed activations of a block of tokens: [slices of kSliceColumns][tiles of 6 tokens], of
    // each the codes [columns/4][6][4] and then TileJob::info, in whole cache lines; and
    // TileJob::narrow.
    struct Packed {
        unsigned char* tiles;
        bool* narrow;  // [slices][tiles]
        int64_t n_tiles;
        int64_t n;  // columns
        QuantTraits traits;
        int64_t n_columns(int64_t k) const { return std::min<int64_t>(kSliceColumns, n - k); }
        int64_t code_bytes(int64_t k) const { return n_columns(k) * kTileWidth; }
        int64_t tile_bytes(int64_t k) const;
        unsigned char* tile(int64_t k, int64_t tile) const;
        bool& is_narrow(int64_t k, int64_t tile) const {
            return narrow[k / kSliceColumns * n_tiles + tile];
        }
    };
    void pack(const TierOps& ops, ThreadPool& pool, QuantFormat format, int64_t n);
    void pack_tile(const TierOps& ops, int64_t tile);
    // The info of a group; `sums`, `magnitudes`: of 16 codes each. Returns whether it is narrow.
    bool pack_info(const int32_t* sums, const int32_t* magnitudes, float scale, float* info) const;
    // Where the products of the packed tokens go: y of the first of them.
    struct Target {
        const Weight& weight;
        const float* bias;
        Epilogue epilogue;
        float* y;
    };
    // Rows [first_row, first_row + 64 * n_panels).
    void multiply_panels(const TierOps& ops, QuantFormat format, const Target& target,
                         int64_t first_row, int64_t n_panels, ThreadScratch& scratch) const;
    void fetch_target(const Target& target, int64_t first_row, int64_t tile) const;
    // sums [tokens][64] of a tile.
    void store_tile(const TierOps& ops, const Target& target, int64_t first_row, int64_t tile,
                    const float* sums) const;

    std::vector<const float*> rows_;  // of the tokens that are packed
    Packed packed_ = {};
    ScratchBuffer<unsigned char> packed_tiles_;
    ScratchBuffer<bool> narrow_;
    std::vector<ThreadScratch> threads_;
};

}  // namespace nemo
