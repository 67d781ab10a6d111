// The inner loops of the CPU kernels: one table of functions per instruction tier.
//
// The bodies lie in tier_*.inl, written once over vectors of 16 lanes, and are compiled once per
// tier by tier_scalar.cpp, tier_avx2.cpp, tier_avxvnni.cpp and tier_avx512.cpp. Those files export
// their table and nothing else, and include no STL: an inline function emitted there with AVX-512
// code could be the copy that the linker picks for the whole program
// (tests/kernels/test_tier_symbols.cpp looks).
//
// Rules: single-threaded, no allocation, no alignment needed. Each output is reduced in an order
// that depends on nothing but its own length. Tiers differ from each other in fused multiply-adds
// only; integer sums and the int8 codes of activations are the same in all.
#pragma once

#include "kernels/cpu/attention_jobs.h"
#include "kernels/cpu/mamba_jobs.h"
#include "kernels/cpu/quant_format.h"

#include <cstdint>

namespace nemo {

// Tokens up to which weights are read by strips of 16 rows; more tokens meet panels of 64 rows that
// are expanded once for all of them. Both give the same bits (quant_format.h).
constexpr int64_t kSmallBatch = 16;

// tile[t * tile_stride + r] = dot(row r, x[t]) for all r and t. Rows that are read together are
// spread evenly over the job: each is then a long stream, which the processor's prefetchers follow,
// where neighbouring rows would be short streams that share pages.
struct DotJob {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t n;              // elements per row
    const float* const* x;  // one pointer per token
    int64_t n_tokens;
    float* tile;
    int64_t tile_stride;
};

// Columns [first_column, + n_columns) of up to kFloatPanelRows float rows as fp32: panel [groups of
// kFloatGroupRows rows][columns / 16][kFloatGroupRows][16], zeros after the last column.
constexpr int kFloatPanelRows = 48, kFloatGroupRows = 4, kFloatTileTokens = 6;
constexpr int kFloatSliceColumns = 512;
struct FloatPanelJob {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t first_column;
    int64_t n_columns;  // at most kFloatSliceColumns
    float* panel;
};

// sums[group][token][row] += row * token, lane by lane, over 16 * n_steps columns.
struct FloatTileJob {
    const float* panel;  // from the first of n_groups
    int64_t n_groups;
    const float* x;  // [n_steps][kFloatTileTokens][16]
    int64_t n_steps;
    float* sums;  // [n_groups][kFloatTileTokens][kFloatGroupRows][16]
};

// Up to kMostBatchTokens tokens as int8, interleaved with `width` (1, 2, 4 or 8) places per value;
// places from n_tokens on are zeros.
constexpr int kMostBatchTokens = 8;
struct ActivationBatch {
    int64_t width;
    int64_t n_tokens;
    int8_t* codes;   // [n / 4][width][4]
    float* scale;    // [groups][width]
    int32_t* start;  // [sub-blocks][width]: -offset * sum of the codes
    float* sum;      // [sub-blocks][width]: sum of the codes
    // For integer scales (QuantTraits): [sub-blocks / 2][width] pairs of such sums, and whether the
    // sums of all sub-blocks with any weights fit into 16 bits.
    int32_t* pairs;
    bool narrow;
};

// The same for rows of a block format.
struct StripJob {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t n;  // elements per row
    // For processors that do not follow kStripRows streams: neighbouring rows are read together,
    // the next ones fetched in the order of their addresses. Else every stream is fetched a little
    // ahead, because the prefetchers stop where a page ends.
    bool fetches_ahead;
    const ActivationBatch* x;
    float* tile;
    int64_t tile_stride;
};

// int8 codes of n activations, a whole number of groups.
struct QuantizeJob {
    const float* x;
    int64_t n;
    int64_t group;
    int8_t* codes;        // [n]
    float* scale;         // [n / group]
    int32_t* sums;        // [n / 16]: sums of 16 codes
    int32_t* magnitudes;  // [n / 16]: sums of their magnitudes
};

// Codes of the tokens of a tile in the order in which it reads them.
struct WeaveJob {
    const int8_t* codes;  // [kTileWidth][kSliceColumns]
    int64_t n_columns;    // a multiple of 4
    unsigned char* tile;  // [n_columns / 4][kTileWidth][4]
};

// Columns [first_column, + n_columns) of up to 64 rows as codes (tier_panel.inl).
struct PanelJob {
    const unsigned char* rows;
    int64_t row_bytes;
    int64_t n_rows;
    int64_t first_column;
    int64_t n_columns;     // at most kSliceColumns, whole blocks
    unsigned char* panel;  // [n_columns / 4][64][4], aligned to 64
    float* scales;         // [groups][panel_rows_per_group][64], aligned to 64
};

// c[t][r] += panel row r times token t over n_groups groups.
struct TileJob {
    const unsigned char* panel;
    const float* scales;
    const int8_t* x;  // [columns / 4][kTileWidth][4]
    // Per group: for each sub-block kTileWidth times -offset * sum of its codes as int32, and in
    // formats with minimums the sums as fp32; then the scales. With integer scales: the former or,
    // in formats with minimums, the pairs of sums only; then the scales.
    const float* info;
    int64_t n_groups;
    bool narrow;        // ActivationBatch::narrow, for these columns
    const void* ahead;  // what a later job reads as x and info
    int64_t n_tokens;   // from which on c is not used
    float* c;           // [kTileWidth][64], aligned to 64
};

// y[t][r] = epilogue(tile[t][r] * factor + bias[r]), n_rows values of n_tokens rows.
enum class StoreKind { store, add, relu2 };
struct StoreJob {
    const float* tile;
    int64_t tile_stride;
    int64_t n_rows;
    int64_t n_tokens;
    float factor;
    const float* bias;  // or null
    StoreKind kind;
    float* y;
    int64_t y_stride;
};

struct TierOps {
    using Dot = void (*)(const DotJob& job);
    Dot dot_f32;
    Dot dot_f16;
    Dot dot_bf16;
    // The same for many tokens (float_product.h).
    using Widen = void (*)(const FloatPanelJob& job);
    Widen widen_f32;
    Widen widen_f16;
    Widen widen_bf16;
    void (*multiply_float_tile)(const FloatTileJob& job);
    // results [kFloatTileTokens][kFloatPanelRows]: of all groups' sums, added as Dot does.
    void (*sum_float_tile)(const float* sums, float* results);
    // By QuantFormat.
    void (*dot_strips[kQuantFormats])(const StripJob& job);
    void (*expand_panel[kQuantFormats])(const PanelJob& job);
    void (*multiply_tile[kQuantFormats])(const TileJob& job);
    void (*quantize)(const QuantizeJob& job);
    void (*weave)(const WeaveJob& job);
    void (*store_tile)(const StoreJob& job);

    void (*conv_silu)(const ConvJob& job);
    void (*scan_steps)(const ScanStepsJob& job);
    void (*scan)(const ScanJob& job);

    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                       float* y);
    // y = rms_norm(x * silu(z)) * weight. y may be x.
    void (*gated_norm)(const float* x, const float* z, const float* weight, int64_t n, float eps,
                       float* y);

    AttentionOps attention;
};

// What AVX-VNNI adds to kAvx2Ops.
struct ProductOps {
    void (*dot_strips[kQuantFormats])(const StripJob& job);
    void (*multiply_tile[kQuantFormats])(const TileJob& job);
};

extern const TierOps kScalarOps;
extern const TierOps kAvx2Ops;
extern const ProductOps kAvxVnniOps;
extern const TierOps kAvx512Ops;

}  // namespace nemo
