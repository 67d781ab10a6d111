// What the int8 kernels know of each block format: its sizes and how a code becomes a weight.
//
// Every format is read as unsigned codes in sub-blocks that share a scale:
//   weight = scale_j * (code - kOffset) - min_j        (min only in formats with kHasMin)
// Non-linear formats (IQ4, FP4) store table values plus kOffset as codes.
//
// Activations are int8 with one scale per group of columns, 256 or 32, as llama.cpp has them for
// the same format: two engines that round the same activations alike give nearly the same logits.
// With the integer sums S_j of a group's sub-blocks, every kernel in every tier computes
//   y += scale_x * (scale_0 * S_0 - min_0 * sum_0 + scale_1 * S_1 - ...), sum_j: that of the codes
//   of x
// in this order, the first product rounded, then fused multiply-adds: the same bits. Where scales
// and minimums are small integers under an fp16 factor (kHasIntegerScales), it is
//   y += scale_x * (d * sum of (int_scale_j * S_j) - d_min * sum of (int_min_j * sum_j))
// with exact integer sums: the product with d_min rounded, then fused multiply-adds.
#pragma once

#include <cstdint>

namespace nemo {

enum class QuantFormat : int {
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    iq4_nl,
    iq4_xs,
    mxfp4,
    nvfp4,
    count
};

constexpr int kQuantFormats = static_cast<int>(QuantFormat::count);

// Their numbers, for tables of what is instantiated for each.
template <int... kIndex>
struct Formats {
    static_assert(sizeof...(kIndex) == kQuantFormats);
};
using AllFormats = Formats<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13>;

struct QuantTraits {
    int block_columns;
    int block_bytes;
    int sub_columns;  // columns that share a scale
    int group;        // columns that share a scale of the activations
    int offset;
    bool has_min;
    int reach = 0;                  // formats with integer scales: largest |code - offset|
    bool has_large_scales = false;  // too large for kSumBias

    constexpr int subs_per_group() const { return group / sub_columns; }
    // Their blocks are groups.
    constexpr bool has_integer_scales() const { return reach != 0; }
    // One scale per group.
    constexpr bool single() const { return subs_per_group() == 1; }
    // Panels then keep their sums with a bias (kSumBias).
    constexpr bool is_biased() const { return single() && !has_large_scales; }
    // What a panel stores per group, in rows of 64 floats, and packed activations, in rows of
    // kTileWidth (tier_panel.inl, TileJob).
    constexpr int panel_rows_per_group() const {
        return has_integer_scales() ? subs_per_group() + 1 + has_min * (subs_per_group() / 2 + 1)
                                    : subs_per_group() * (1 + is_biased() + has_min);
    }
    constexpr int info_rows_per_group() const {
        return has_integer_scales() ? (has_min ? subs_per_group() / 2 : subs_per_group()) + 1
                                    : subs_per_group() * (1 + has_min) + 1;
    }
    // Below 64: the sum of two products with int8 fits into 16 bits.
    constexpr bool has_small_codes() const { return offset < 128; }
    // Whether the sum of a sub-block fits into 16 bits, given the sum of the activations' codes and
    // that of their magnitudes.
    constexpr bool is_narrow(int32_t sum, int32_t magnitude) const {
        const int32_t larger_part = (magnitude + (sum < 0 ? -sum : sum)) / 2;
        return reach * (offset == 0 ? larger_part : magnitude) < 0x8000;
    }
};

constexpr QuantTraits quant_traits(QuantFormat format) {
    switch (format) {
        case QuantFormat::q4_0:
            return {32, 18, 32, 32, 8, false};
        case QuantFormat::q4_1:
            return {32, 20, 32, 32, 0, true};
        case QuantFormat::q5_0:
            return {32, 22, 32, 32, 16, false};
        case QuantFormat::q5_1:
            return {32, 24, 32, 32, 0, true};
        case QuantFormat::q8_0:
            return {32, 34, 32, 32, 128, false};
        case QuantFormat::q2_k:
            return {256, 84, 16, 256, 0, true, 3};
        case QuantFormat::q3_k:
            return {256, 110, 16, 256, 4, false, 4};
        case QuantFormat::q4_k:
            return {256, 144, 32, 256, 0, true, 15};
        case QuantFormat::q5_k:
            return {256, 176, 32, 256, 0, true, 31};
        case QuantFormat::q6_k:
            return {256, 210, 16, 256, 32, false, 32};
        case QuantFormat::iq4_nl:
            return {32, 18, 32, 32, 128, false};
        case QuantFormat::iq4_xs:
            return {256, 136, 32, 256, 128, false};
        case QuantFormat::mxfp4:
            return {32, 17, 32, 32, 12, false, 0, true};
        case QuantFormat::nvfp4:
            return {64, 36, 16, 32, 12, false};
        case QuantFormat::count:
            break;
    }
    return {};
}

// Integer minimums, and sums of activations for them, are kept as pairs of 16 bits, because
// vpdpwssd multiplies pairs: sub-blocks 4i and 4i + 2, then 4i + 1 and 4i + 3, which is how they
// come out of packed bytes. The first sub-block of pair p, and the distance of the second.
constexpr int64_t first_of_pair(int64_t p) {
    return p / 2 * 4 + p % 2;
}
constexpr int kPairDistance = 2;
constexpr int32_t word_pair(int32_t low, int32_t high) {
    return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xffff) | static_cast<uint32_t>(high)
                                                                            << 16);
}

// Sums of a sub-block are below 2^22. Read as a float, an int32 sum that started at the bits of
// kSumBias is kSumBias + sum, so that fma(that, scale, -kSumBias * scale) is sum * scale rounded
// once, without a conversion. -kSumBias * scale is exact, since scales of is_biased() formats are
// fp16; those of MXFP4 can be 2^127, for which it would overflow.
constexpr float kSumBias = 0x1.8p23f;
constexpr int32_t kSumBiasBits = 0x4b400000;

// Rows that are read together: one per lane of 16. A panel is what meets many tokens at once.
constexpr int kStripRows = 16;
constexpr int kPanelRows = 64;
// Columns of a strip and of a panel that are in cache at a time.
constexpr int kStripColumns = 256;
constexpr int kSliceColumns = 256;
// Tokens of a register tile.
constexpr int kTileWidth = 6;

}  // namespace nemo
