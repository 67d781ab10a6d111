#include "kernels/cpu/packed_tokens.h"

#include <array>
#include <bit>
#include <utility>

namespace nemo {

namespace {

// Columns that share a scale, at least.
constexpr int64_t kLeastGroup = 32;

// The info of a token in a slice; `sums`, `magnitudes`: of 16 codes each, `scales`: of groups.
// Returns whether all sub-blocks are narrow.
template <QuantFormat kFormat>
bool pack_info(const int32_t* sums, const int32_t* magnitudes, const float* scales,
               int64_t n_columns, float* info) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    const auto put = [&](auto value) {
        *info = std::bit_cast<float>(value);
        info += kTileWidth;
    };
    // Of sub-blocks.
    int32_t sub_sums[kSliceColumns / 16], sub_magnitudes[kSliceColumns / 16];
    const int64_t n_subs = n_columns / kTraits.sub_columns, parts = kTraits.sub_columns / 16;
    for (int64_t j = 0; j < n_subs; ++j) {
        sub_sums[j] = sums[j * parts] + (parts == 2 ? sums[j * parts + 1] : 0);
        sub_magnitudes[j] = magnitudes[j * parts] + (parts == 2 ? magnitudes[j * parts + 1] : 0);
    }
    if (kTraits.has_integer_scales()) {
        bool narrow = true;
        for (int64_t j = 0; j < n_subs; ++j)
            narrow &= kTraits.is_narrow(sub_sums[j], sub_magnitudes[j]);
        if (kTraits.has_min)
            for (int64_t p = 0; p < n_subs / 2; ++p)
                put(word_pair(sub_sums[first_of_pair(p)],
                              sub_sums[first_of_pair(p) + kPairDistance]));
        else
            for (int64_t j = 0; j < n_subs; ++j) put(-kTraits.offset * sub_sums[j]);
        put(scales[0]);
        return narrow;
    }
    const int64_t per_group = kTraits.subs_per_group();
    const int32_t start = kTraits.is_biased() ? kSumBiasBits : 0;
    for (int64_t j = 0; j < n_subs; ++j) {
        put(start - kTraits.offset * sub_sums[j]);
        if (kTraits.has_min) put(static_cast<float>(sub_sums[j]));
        if ((j + 1) % per_group == 0) put(scales[j / per_group]);
    }
    return true;
}

using PackInfo = bool (*)(const int32_t*, const int32_t*, const float*, int64_t, float*);
template <size_t... kFormats>
constexpr std::array<PackInfo, sizeof...(kFormats)> pack_infos(std::index_sequence<kFormats...>) {
    return {pack_info<static_cast<QuantFormat>(kFormats)>...};
}
// By QuantFormat.
constexpr auto kPackInfos = pack_infos(std::make_index_sequence<kQuantFormats>());

}  // namespace

void PackedTokens::reset(QuantFormat format, int64_t n_tokens, int64_t n) {
    format_ = format;
    traits_ = quant_traits(format);
    n_tokens_ = n_tokens;
    n_ = n;
    const int64_t n_slices = (n + kSliceColumns - 1) / kSliceColumns;
    tiles_.get(n_slices * n_tiles() * tile_bytes(0));
    narrow_.get(n_slices * n_tiles());
}

int64_t PackedTokens::tile_bytes(int64_t k) const {
    constexpr int64_t kLine = 64;
    const int64_t n_info =
        n_columns(k) / traits_.group * traits_.info_rows_per_group() * kTileWidth;
    const int64_t n_bytes = code_bytes(k) + n_info * int64_t{sizeof(float)};
    return (n_bytes + kLine - 1) / kLine * kLine;
}

void PackedTokens::pack(const TierOps& ops, int64_t k, int64_t tile,
                        const float* const (&x)[kTileWidth]) {
    const int64_t n_columns_here = n_columns(k);
    alignas(64) int8_t codes[kTileWidth * kSliceColumns];
    float scales[kSliceColumns / kLeastGroup];
    int32_t sums[kSliceColumns / 16], magnitudes[kSliceColumns / 16];
    unsigned char* packed = tile_at(k, tile);
    const PackInfo put_info = kPackInfos[static_cast<size_t>(format_)];
    bool narrow = true;
    for (int64_t place = 0; place < kTileWidth; ++place) {
        ops.quantize({.x = x[place],
                      .n = n_columns_here,
                      .group = traits_.group,
                      .codes = codes + place * kSliceColumns,
                      .scale = scales,
                      .sums = sums,
                      .magnitudes = magnitudes});
        narrow &= put_info(sums, magnitudes, scales, n_columns_here,
                           reinterpret_cast<float*>(packed + code_bytes(k)) + place);
    }
    ops.weave({.codes = codes, .n_columns = n_columns_here, .tile = packed});
    narrow_.get()[narrow_index(k, tile)] = narrow;
}

}  // namespace nemo
