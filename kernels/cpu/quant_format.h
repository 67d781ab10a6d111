// What the int8 kernels know of each block format: its sizes and how a code becomes a weight.
//
// Every format is read as unsigned codes in sub-blocks that share a scale:
//   weight = scale_j * (code - kOffset) - min_j        (min only in formats with kHasMin)
// Non-linear formats (IQ4, FP4) store table values plus kOffset as codes.
//
// Activations are int8 with one scale per kGroup columns: 256 in the formats of 256 columns, as
// their reference kernels have, else one block. For many tokens the weights of a group are brought
// to a single scale as well: nothing is lost where sub-block and group are the same and there is no
// minimum (kExact), else codes are rounded to int8 once more (tier_panel.inl).
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
    int largest_code;
    bool has_min;

    constexpr bool exact() const { return sub_columns == group && !has_min; }
    // Largest |code - offset|.
    constexpr int reach() const {
        return offset > largest_code - offset ? offset : largest_code - offset;
    }
};

constexpr QuantTraits quant_traits(QuantFormat format) {
    switch (format) {
        case QuantFormat::q4_0:
            return {32, 18, 32, 32, 8, 15, false};
        case QuantFormat::q4_1:
            return {32, 20, 32, 32, 0, 15, true};
        case QuantFormat::q5_0:
            return {32, 22, 32, 32, 16, 31, false};
        case QuantFormat::q5_1:
            return {32, 24, 32, 32, 0, 31, true};
        case QuantFormat::q8_0:
            return {32, 34, 32, 32, 128, 255, false};
        case QuantFormat::q2_k:
            return {256, 84, 16, 256, 0, 3, true};
        case QuantFormat::q3_k:
            return {256, 110, 16, 256, 4, 7, false};
        case QuantFormat::q4_k:
            return {256, 144, 32, 256, 0, 15, true};
        case QuantFormat::q5_k:
            return {256, 176, 32, 256, 0, 31, true};
        case QuantFormat::q6_k:
            return {256, 210, 16, 256, 32, 63, false};
        case QuantFormat::iq4_nl:
            return {32, 18, 32, 32, 128, 241, false};
        case QuantFormat::iq4_xs:
            return {256, 136, 32, 256, 128, 241, false};
        case QuantFormat::mxfp4:
            return {32, 17, 32, 32, 12, 24, false};
        case QuantFormat::nvfp4:
            return {64, 36, 16, 64, 12, 24, false};
        case QuantFormat::count:
            break;
    }
    return {};
}

// The order in which the scaled sums of a group's sub-blocks are added, i = 0, 1, ...: that in
// which their codes come out of the packed bytes.
constexpr int summation_order(QuantFormat format, int i) {
    constexpr int kLowAndHigh[8] = {0, 4, 2, 6, 1, 5, 3, 7};
    constexpr int kEvenThenOdd[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    switch (format) {
        case QuantFormat::q6_k:
            return i / 8 * 8 + kLowAndHigh[i % 8];
        case QuantFormat::q2_k:
        case QuantFormat::q3_k:
            return i / 8 * 8 + kEvenThenOdd[i % 8];
        default:
            return i;
    }
}

// Rows that are read together: one per lane of 16. A panel is what meets many tokens at once.
constexpr int kStripRows = 16;
constexpr int kPanelRows = 64;
// Columns of a strip and of a panel that are in cache at a time.
constexpr int kStripColumns = 256;
constexpr int kSliceColumns = 512;
// Tokens of a register tile.
constexpr int kTileWidth = 6;

}  // namespace nemo
