// Activations of many tokens as int8, in the order in which register tiles read them: what products
// of block formats take in (panel_product.h).
//
// [slices of kSliceColumns][tiles of kTileWidth tokens], of each the codes [columns/4][tokens][4]
// and then TileJob::info, in whole cache lines.
#pragma once

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <algorithm>
#include <cstdint>

namespace nemo {

class PackedTokens {
public:
    // Room for n_tokens of n columns, for weights of this format. What was packed is lost.
    void reset(QuantFormat format, int64_t n_tokens, int64_t n);
    // Columns [k, + n_columns(k)) of a tile's tokens: x[i] points to those of its token i. Calls
    // for different slices or tiles may run at once.
    void pack(const TierOps& ops, int64_t k, int64_t tile, const float* const (&x)[kTileWidth]);

    QuantFormat format() const { return format_; }
    int64_t n_tokens() const { return n_tokens_; }
    int64_t n_tiles() const { return (n_tokens_ + kTileWidth - 1) / kTileWidth; }
    int64_t n_columns() const { return n_; }
    // Of the slice that begins at column k.
    int64_t n_columns(int64_t k) const { return std::min<int64_t>(kSliceColumns, n_ - k); }
    int64_t code_bytes(int64_t k) const { return n_columns(k) * kTileWidth; }
    int64_t tile_bytes(int64_t k) const;
    const unsigned char* tile(int64_t k, int64_t tile) const { return tile_at(k, tile); }
    // TileJob::narrow
    bool is_narrow(int64_t k, int64_t tile) const { return narrow_.get()[narrow_index(k, tile)]; }
    // The token in a place of a tile; the last tile's missing tokens repeat the last one, their
    // results are not used.
    int64_t token(int64_t tile, int64_t place) const {
        return std::min(tile * kTileWidth + place, n_tokens_ - 1);
    }

private:
    unsigned char* tile_at(int64_t k, int64_t tile) const {
        return tiles_.get() + k / kSliceColumns * n_tiles() * tile_bytes(0) + tile * tile_bytes(k);
    }
    int64_t narrow_index(int64_t k, int64_t tile) const {
        return k / kSliceColumns * n_tiles() + tile;
    }

    QuantFormat format_ = QuantFormat::count;
    QuantTraits traits_ = {};
    int64_t n_tokens_ = 0, n_ = 0;
    ScratchBuffer<unsigned char> tiles_;
    ScratchBuffer<bool> narrow_;  // [slices][tiles]
};

}  // namespace nemo
