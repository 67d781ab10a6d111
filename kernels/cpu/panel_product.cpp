#include "kernels/cpu/panel_product.h"

#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace nemo {

namespace {

// Tokens that meet a panel before it is expanded again; their sums take 129 KB.
constexpr int64_t kMostTokens = 86 * kTileWidth;
// Panels that take turns at the same columns: those columns' activations (256 KB) then come from
// the second-level cache for all but the first of them. Fewer if threads would run out of work.
constexpr int64_t kMostPanels = 4;
constexpr int64_t kPiecesPerThread = 4;

// Fetches the next columns of 64 rows bit by bit while the current ones are multiplied: hardware
// does not follow 64 streams.
class RowPrefetcher {
public:
    RowPrefetcher(const unsigned char* rows, int64_t row_bytes, int64_t n_rows, int64_t piece_bytes)
        : at_(rows), row_bytes_(row_bytes), lines_per_row_(piece_bytes / 64 + 1) {
        n_lines_ = lines_per_row_ * n_rows;
    }
    // Up to `part` of `whole` lines.
    void advance(int64_t part, int64_t whole) {
        for (const int64_t until = n_lines_ * part / whole; n_issued_ < until; ++n_issued_) {
            __builtin_prefetch(at_ + 64 * line_, 0, 2);
            if (++line_ == lines_per_row_) {
                line_ = 0;
                at_ += row_bytes_;
            }
        }
    }

private:
    const unsigned char* at_;
    int64_t row_bytes_, lines_per_row_, n_lines_ = 0, n_issued_ = 0, line_ = 0;
};

}  // namespace

int8_t* PanelProduct::Packed::tile_codes(int64_t k, int64_t tile) const {
    return codes + (k * n_tiles + tile * n_columns(k)) * kTileWidth;
}

float* PanelProduct::Packed::tile_info(int64_t k, int64_t tile) const {
    return info + (k * n_tiles + tile * n_columns(k)) / traits.group *
                      traits.info_rows_per_group() * kTileWidth;
}

bool PanelProduct::pack_info(const int32_t* sums, const int32_t* magnitudes, float scale,
                             float* info) const {
    const QuantTraits& traits = packed_.traits;
    const int n_subs = traits.subs_per_group(), parts = traits.sub_columns / 16;
    const auto sum_of = [&](const int32_t* values, int64_t sub) {
        return std::accumulate(values + sub * parts, values + (sub + 1) * parts, 0);
    };
    const auto put = [&](auto value) {
        *info = std::bit_cast<float>(value);
        info += kTileWidth;
    };
    bool narrow = true;
    if (traits.has_integer_scales())
        for (int j = 0; j < n_subs; ++j)
            narrow = narrow && traits.is_narrow(sum_of(sums, j), sum_of(magnitudes, j));
    if (traits.has_integer_scales() && traits.has_min) {
        for (int p = 0; p < n_subs / 2; ++p)
            put(word_pair(sum_of(sums, first_of_pair(p)),
                          sum_of(sums, first_of_pair(p) + kPairDistance)));
    } else {
        for (int j = 0; j < n_subs; ++j) {
            const int32_t sum = sum_of(sums, j);
            put((traits.is_biased() ? kSumBiasBits : 0) - traits.offset * sum);
            if (traits.has_min) put(static_cast<float>(sum));
        }
    }
    put(scale);
    return narrow;
}

void PanelProduct::pack_token(const TierOps& ops, const float* x, int64_t token,
                              ThreadScratch& scratch) {
    const QuantTraits& traits = packed_.traits;
    const int64_t n = packed_.n, group = traits.group;
    int8_t* codes = scratch.codes.get(n);
    float* scales = scratch.scales.get(n / group);
    int32_t* sums = scratch.code_sums.get(n / 16);
    int32_t* magnitudes = scratch.magnitudes.get(n / 16);
    ops.quantize({.x = x,
                  .n = n,
                  .group = group,
                  .codes = codes,
                  .scale = scales,
                  .sums = sums,
                  .magnitudes = magnitudes});

    const int64_t tile = token / kTileWidth, lane = token % kTileWidth;
    for (int64_t k = 0; k < n; k += kSliceColumns) {
        const int64_t end = k + packed_.n_columns(k);
        int8_t* target = packed_.tile_codes(k, tile) + 4 * lane;
        for (int64_t i = k; i < end; i += 4, target += 4 * kTileWidth)
            std::memcpy(target, codes + i, 4);
        float* info = packed_.tile_info(k, tile) + lane;
        bool narrow = lane == 0 || packed_.is_narrow(k, tile);
        for (int64_t g = k; g < end; g += group) {
            narrow =
                pack_info(sums + g / 16, magnitudes + g / 16, scales[g / group], info) && narrow;
            info += traits.info_rows_per_group() * kTileWidth;
        }
        packed_.is_narrow(k, tile) = narrow;
    }
}

void PanelProduct::pack(const TierOps& ops, ThreadPool& pool, QuantFormat format, int64_t n) {
    const QuantTraits traits = quant_traits(format);
    const int64_t n_tokens = std::ssize(rows_);
    const int64_t n_tiles = (n_tokens + kTileWidth - 1) / kTileWidth;
    packed_ = {
        .codes = codes_.get(n_tiles * kTileWidth * n),
        .info = info_.get(n_tiles * kTileWidth * (n / traits.group) * traits.info_rows_per_group()),
        .narrow = narrow_.get(n_tiles * ((n + kSliceColumns - 1) / kSliceColumns)),
        .n_tiles = n_tiles,
        .n = n,
        .traits = traits};
    pool.parallel_for(
        n_tiles * kTileWidth, kTileWidth, [&](int64_t begin, int64_t end, int thread) {
            // The last tile's missing tokens repeat the last one; their results are not used.
            for (int64_t t = begin; t < end; ++t) {
                ThreadScratch& scratch = threads_[static_cast<size_t>(thread)];
                pack_token(ops, rows_[static_cast<size_t>(std::min(t, n_tokens - 1))], t, scratch);
            }
        });
}

void PanelProduct::store_tile(const TierOps& ops, const Target& target, int64_t first_row,
                              int64_t tile, const float* sums) const {
    const int64_t n_out = target.weight.n_out(), first_token = tile * kTileWidth;
    ops.store_tile({.tile = sums,
                    .tile_stride = kPanelRows,
                    .n_rows = std::min<int64_t>(kPanelRows, n_out - first_row),
                    .n_tokens = std::min<int64_t>(kTileWidth, std::ssize(rows_) - first_token),
                    .factor = matrix_scale(target.weight, first_row),
                    .bias = target.bias != nullptr ? target.bias + first_row : nullptr,
                    .kind = store_kind(target.epilogue),
                    .y = target.y + first_token * n_out + first_row,
                    .y_stride = n_out});
}

void PanelProduct::fetch_target(const Target& target, int64_t first_row, int64_t tile) const {
    const int64_t n_out = target.weight.n_out();
    const int64_t first = tile * kTileWidth, end = std::min(first + kTileWidth, std::ssize(rows_));
    for (int64_t t = first; t < end; ++t)
        for (int64_t row = first_row; row < std::min(first_row + kPanelRows, n_out); row += 16)
            __builtin_prefetch(target.y + t * n_out + row, 1, 2);
}

void PanelProduct::multiply_panels(const TierOps& ops, QuantFormat format, const Target& target,
                                   int64_t first_row, int64_t n_panels,
                                   ThreadScratch& scratch) const {
    const QuantTraits& traits = packed_.traits;
    const TensorView& view = target.weight.view;
    const int64_t n = packed_.n, n_tiles = packed_.n_tiles, row_bytes = view.row_bytes();
    const auto* rows = reinterpret_cast<const unsigned char*>(view.row(first_row));
    const auto bytes_of = [&](int64_t columns) {
        return columns / traits.block_columns * traits.block_bytes;
    };
    const auto n_rows_of = [&](int64_t p) {
        return std::min<int64_t>(kPanelRows, view.n_rows() - first_row - p * kPanelRows);
    };
    const auto multiply_tile = ops.multiply_tile[static_cast<int>(format)];
    unsigned char* panel = scratch.panel.get(kPanelRows * kSliceColumns);
    float* scales = scratch.panel_scales.get(kPanelRows * kSliceColumns / traits.group *
                                             traits.panel_rows_per_group());
    const int64_t n_sums = n_panels * n_tiles * kTileWidth * kPanelRows;
    float* sums = scratch.sums.get(n_sums);
    std::fill_n(sums, n_sums, 0.0f);
    for (int64_t k = 0; k < n; k += kSliceColumns) {
        const int64_t n_columns = packed_.n_columns(k);
        const bool last = k + n_columns == n;
        for (int64_t p = 0; p < n_panels; ++p) {
            ops.expand_panel[static_cast<int>(format)]({.rows = rows + p * kPanelRows * row_bytes,
                                                        .row_bytes = row_bytes,
                                                        .n_rows = n_rows_of(p),
                                                        .first_column = k,
                                                        .n_columns = n_columns,
                                                        .panel = panel,
                                                        .scales = scales});
            const bool wraps = p + 1 == n_panels;
            const int64_t next_p = wraps ? 0 : p + 1, next_k = wraps ? k + n_columns : k;
            RowPrefetcher prefetcher(rows + next_p * kPanelRows * row_bytes + bytes_of(next_k),
                                     row_bytes, next_k < n ? n_rows_of(next_p) : 0,
                                     bytes_of(packed_.n_columns(next_k)));
            for (int64_t tile = 0; tile < n_tiles; ++tile) {
                float* tile_sums = sums + (p * n_tiles + tile) * kTileWidth * kPanelRows;
                prefetcher.advance(tile + 1, n_tiles);
                if (last) fetch_target(target, first_row + p * kPanelRows, tile + 1);
                multiply_tile({.panel = panel,
                               .scales = scales,
                               .x = packed_.tile_codes(k, tile),
                               .info = packed_.tile_info(k, tile),
                               .n_groups = n_columns / traits.group,
                               .narrow = packed_.is_narrow(k, tile),
                               .c = tile_sums});
                // At once, so that memory takes the results while the next tiles are computed.
                if (last) store_tile(ops, target, first_row + p * kPanelRows, tile, tile_sums);
            }
        }
    }
}

void PanelProduct::run(const TierOps& ops, ThreadPool& pool, QuantFormat format,
                       const Weight& weight, const float* x, int64_t n_tokens, const float* bias,
                       Epilogue epilogue, float* y, std::span<const int64_t> order) {
    const int64_t n = weight.n_in(), n_out = weight.n_out();
    const int64_t n_panels = (n_out + kPanelRows - 1) / kPanelRows;
    const int64_t most =
        std::clamp<int64_t>(n_panels / (kPiecesPerThread * pool.n_threads()), 1, kMostPanels);
    for (int64_t t = 0; t < n_tokens; t += kMostTokens) {
        const int64_t n_block = std::min(kMostTokens, n_tokens - t);
        rows_.clear();
        for (int64_t i = t; i < t + n_block; ++i)
            rows_.push_back(x + (order.empty() ? i : order[static_cast<size_t>(i)]) * n);
        pack(ops, pool, format, n);
        const Target target = {weight, bias, epilogue, y + t * n_out};
        pool.parallel_for(n_panels, most, [&](int64_t begin, int64_t end, int thread) {
            multiply_panels(ops, format, target, begin * kPanelRows, end - begin,
                            threads_[static_cast<size_t>(thread)]);
        });
    }
}

}  // namespace nemo
