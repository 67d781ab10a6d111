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
// Columns that share a scale of the activations, at least.
constexpr int64_t kLeastGroup = 32;

// Fetches the next columns of 64 rows bit by bit while the current ones are multiplied: hardware
// does not follow 64 streams.
class RowPrefetcher {
public:
    // In n_steps steps.
    RowPrefetcher(const unsigned char* rows, int64_t row_bytes, int64_t n_rows, int64_t piece_bytes,
                  int64_t n_steps)
        : row_(rows), row_bytes_(row_bytes), n_rows_(n_rows), piece_bytes_(piece_bytes) {
        const int64_t most_lines = n_rows * ((piece_bytes + kLine - 2) / kLine + 1);
        lines_per_step_ = (most_lines + n_steps - 1) / n_steps;
        begin_row();
    }
    void step() {
        for (int64_t i = 0; i < lines_per_step_ && n_rows_ > 0; ++i) {
            __builtin_prefetch(row_ + offset_, 0, 2);
            offset_ += kLine;
            if (offset_ < piece_bytes_) continue;
            row_ += row_bytes_;
            --n_rows_;
            begin_row();
        }
    }

private:
    static constexpr int64_t kLine = 64;
    // The piece begins within its first line.
    void begin_row() { offset_ = -static_cast<int64_t>(reinterpret_cast<uintptr_t>(row_) % kLine); }

    const unsigned char* row_;
    int64_t row_bytes_, n_rows_, piece_bytes_, lines_per_step_, offset_ = 0;
};

}  // namespace

int64_t PanelProduct::Packed::tile_bytes(int64_t k) const {
    constexpr int64_t kLine = 64;
    const int64_t n_info = n_columns(k) / traits.group * traits.info_rows_per_group() * kTileWidth;
    const int64_t n_bytes = code_bytes(k) + n_info * int64_t{sizeof(float)};
    return (n_bytes + kLine - 1) / kLine * kLine;
}

unsigned char* PanelProduct::Packed::tile(int64_t k, int64_t tile) const {
    return tiles + k / kSliceColumns * n_tiles * tile_bytes(0) + tile * tile_bytes(k);
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

// Slice by slice, so that what the tokens are woven into stays in the first-level cache.
void PanelProduct::pack_tile(const TierOps& ops, int64_t tile) {
    const QuantTraits& traits = packed_.traits;
    const int64_t last_token = std::ssize(rows_) - 1;
    int8_t codes[kSliceColumns];
    float scales[kSliceColumns / kLeastGroup];
    int32_t sums[kSliceColumns / 16], magnitudes[kSliceColumns / 16];
    for (int64_t k = 0; k < packed_.n; k += kSliceColumns) {
        const int64_t n_columns = packed_.n_columns(k);
        unsigned char* packed = packed_.tile(k, tile);
        bool narrow = true;
        for (int64_t lane = 0; lane < kTileWidth; ++lane) {
            // The last tile's missing tokens repeat the last one; their results are not used.
            const int64_t token = std::min(tile * kTileWidth + lane, last_token);
            ops.quantize({.x = rows_[static_cast<size_t>(token)] + k,
                          .n = n_columns,
                          .group = traits.group,
                          .codes = codes,
                          .scale = scales,
                          .sums = sums,
                          .magnitudes = magnitudes});
            unsigned char* to = packed + 4 * lane;
            for (int64_t i = 0; i < n_columns; i += 4)
                std::memcpy(to + i * kTileWidth, codes + i, 4);
            float* info = reinterpret_cast<float*>(packed + packed_.code_bytes(k)) + lane;
            for (int64_t g = 0; g < n_columns; g += traits.group) {
                narrow =
                    pack_info(sums + g / 16, magnitudes + g / 16, scales[g / traits.group], info) &&
                    narrow;
                info += traits.info_rows_per_group() * kTileWidth;
            }
        }
        packed_.is_narrow(k, tile) = narrow;
    }
}

void PanelProduct::pack(const TierOps& ops, ThreadPool& pool, QuantFormat format, int64_t n) {
    const int64_t n_tiles = (std::ssize(rows_) + kTileWidth - 1) / kTileWidth;
    const int64_t n_slices = (n + kSliceColumns - 1) / kSliceColumns;
    packed_ = {.narrow = narrow_.get(n_tiles * n_slices),
               .n_tiles = n_tiles,
               .n = n,
               .traits = quant_traits(format)};
    packed_.tiles = packed_tiles_.get(n_slices * n_tiles * packed_.tile_bytes(0));
    pool.parallel_for(n_tiles, 1, [&](int64_t tile, int64_t, int) { pack_tile(ops, tile); });
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
    const int64_t n_tokens = std::ssize(rows_);
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
        const int64_t n_columns = packed_.n_columns(k), tile_bytes = packed_.tile_bytes(k);
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
                                     bytes_of(packed_.n_columns(next_k)), n_tiles);
            const unsigned char* packed = packed_.tile(k, 0);
            for (int64_t tile = 0; tile < n_tiles; ++tile, packed += tile_bytes) {
                float* tile_sums = sums + (p * n_tiles + tile) * kTileWidth * kPanelRows;
                prefetcher.step();
                if (last) fetch_target(target, first_row + p * kPanelRows, tile + 1);
                multiply_tile(
                    {.panel = panel,
                     .scales = scales,
                     .x = reinterpret_cast<const int8_t*>(packed),
                     .info = reinterpret_cast<const float*>(packed + packed_.code_bytes(k)),
                     .n_groups = n_columns / traits.group,
                     .narrow = packed_.is_narrow(k, tile),
                     .ahead = packed + 2 * tile_bytes,
                     .n_tokens = n_tokens - tile * kTileWidth,
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
