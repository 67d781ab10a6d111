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
// in this order, the first product rounded, then fused multiply-adds: the same bits.
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

struct QuantTraits {
    int block_columns;
    int block_bytes;
    int sub_columns;  // columns that share a scale
    int group;        // columns that share a scale of the activations
    int offset;
    bool has_min;

    constexpr int subs_per_group() const { return group / sub_columns; }
    // One scale per group: sums are then kept with a bias (kSumBias).
    constexpr bool single() const { return subs_per_group() == 1; }
    // What a panel stores per sub-block, in rows of 64 floats, and packed activations per group, in
    // rows of kTileWidth.
    constexpr int panel_rows_per_sub() const { return 1 + single() + has_min; }
    constexpr int info_rows_per_group() const { return subs_per_group() * (1 + has_min) + 1; }
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
            return {256, 84, 16, 256, 0, true};
        case QuantFormat::q3_k:
            return {256, 110, 16, 256, 4, false};
        case QuantFormat::q4_k:
            return {256, 144, 32, 256, 0, true};
        case QuantFormat::q5_k:
            return {256, 176, 32, 256, 0, true};
        case QuantFormat::q6_k:
            return {256, 210, 16, 256, 32, false};
        case QuantFormat::iq4_nl:
            return {32, 18, 32, 32, 128, false};
        case QuantFormat::iq4_xs:
            return {256, 136, 32, 256, 128, false};
        case QuantFormat::mxfp4:
            return {32, 17, 32, 32, 12, false};
        case QuantFormat::nvfp4:
            return {64, 36, 16, 32, 12, false};
        case QuantFormat::count:
            break;
    }
    return {};
}

// The sub-block whose scaled sum is added as number i of its group, i = 0, 1, ...: in the order in
// which codes come out of the packed bytes. Bits of a number below 8 change places.
constexpr int summation_order(QuantFormat format, int i) {
    const int low = i & 7;
    switch (format) {
        case QuantFormat::q6_k:
            return i - low + ((low & 1) << 2 | (low & 2) | low >> 2);
        case QuantFormat::q2_k:
        case QuantFormat::q3_k:
            return i - low + ((low << 1 & 6) | low >> 2);
        default:
            return i;
    }
}

// The i for which summation_order(format, i) is `sub`.
constexpr int summation_place(QuantFormat format, int sub) {
    const int low = sub & 7;
    switch (format) {
        case QuantFormat::q6_k:
            return sub - low + ((low & 1) << 2 | (low & 2) | low >> 2);
        case QuantFormat::q2_k:
        case QuantFormat::q3_k:
            return sub - low + ((low & 1) << 2 | low >> 1);
        default:
            return sub;
    }
}

// Sums of a sub-block are below 2^22. Read as a float, an int32 sum that started at the bits of
// kSumBias is kSumBias + sum, so that fma(that, scale, -kSumBias * scale) is sum * scale rounded
// once, without a conversion. -kSumBias * scale is exact, since scales of single() formats have 11
// significant bits; it overflows for MXFP4 scales of 2^104 and more: those products become NaN.
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
