#include "kernels/cpu/panel_product.h"

#include "core/error.h"
#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <utility>

namespace nemo {

namespace {

// Panels that take turns at the same columns: those columns' activations (256 KB) then come from
// the second-level cache for all but the first of them. Fewer if threads would run out of work.
constexpr int64_t kMostPanels = 4;
constexpr int64_t kPiecesPerThread = 4;
// Such a piece of results is then a slice of what the next product takes in (keep_tile).
static_assert(kMostPanels * kPanelRows == kSliceColumns);

int64_t n_panels_of(int64_t n_out) {
    return (n_out + kPanelRows - 1) / kPanelRows;
}

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

void PanelProduct::store_tile(const TierOps& ops, const Target& target, int64_t first_row,
                              int64_t first_token, const float* sums, float* y, int64_t y_stride) {
    ops.store_tile({.tile = sums,
                    .tile_stride = kPanelRows,
                    .n_rows = std::min<int64_t>(kPanelRows, target.weight.n_out() - first_row),
                    .n_tokens = std::min<int64_t>(kTileWidth, target.n_tokens - first_token),
                    .factor = matrix_scale(target.weight, first_row),
                    .bias = target.bias != nullptr ? target.bias + first_row : nullptr,
                    .kind = store_kind(target.epilogue),
                    .y = y,
                    .y_stride = y_stride});
}

void PanelProduct::fetch_target(const Target& target, int64_t first_row, int64_t tile) {
    const int64_t n_out = target.weight.n_out();
    const int64_t first = tile * kTileWidth, end = std::min(first + kTileWidth, target.n_tokens);
    for (int64_t t = first; t < end; ++t)
        for (int64_t row = first_row; row < std::min(first_row + kPanelRows, n_out); row += 16)
            __builtin_prefetch(target.y + t * n_out + row, 1, 2);
}

void PanelProduct::keep_tile(const TierOps& ops, const Target& target, int64_t first_row,
                             int64_t n_panels, int64_t tile, const float* sums) {
    alignas(64) float values[kTileWidth * kSliceColumns];
    for (int64_t p = 0; p < n_panels; ++p)
        store_tile(ops, target, first_row + p * kPanelRows, tile * kTileWidth,
                   sums + p * target.keep->n_tiles() * kTileWidth * kPanelRows,
                   values + p * kPanelRows, kSliceColumns);
    const float* x[kTileWidth];
    for (int64_t i = 0; i < kTileWidth; ++i)
        x[i] = values + (target.keep->token(tile, i) - tile * kTileWidth) * kSliceColumns;
    target.keep->pack(ops, first_row, tile, x);
}

void PanelProduct::multiply_panels(const TierOps& ops, const PackedTokens& in, const Target& target,
                                   int64_t first_row, int64_t n_panels, ThreadScratch& scratch) {
    const QuantTraits traits = quant_traits(in.format());
    const TensorView& view = target.weight.view;
    const int64_t n = in.n_columns(), n_tiles = in.n_tiles(), row_bytes = view.row_bytes();
    const auto format = static_cast<int>(in.format());
    const auto* rows = reinterpret_cast<const unsigned char*>(view.row(first_row));
    const auto bytes_of = [&](int64_t columns) {
        return columns / traits.block_columns * traits.block_bytes;
    };
    const auto n_rows_of = [&](int64_t p) {
        return std::min<int64_t>(kPanelRows, view.n_rows() - first_row - p * kPanelRows);
    };
    const auto multiply_tile = ops.multiply_tile[format];
    unsigned char* panel = scratch.panel.get(kPanelRows * kSliceColumns);
    float* scales = scratch.panel_scales.get(kPanelRows * kSliceColumns / traits.group *
                                             traits.panel_rows_per_group());
    float* sums = scratch.sums.get(n_panels * n_tiles * kTileWidth * kPanelRows);
    for (int64_t k = 0; k < n; k += kSliceColumns) {
        const int64_t n_columns = in.n_columns(k), tile_bytes = in.tile_bytes(k);
        const bool last = k + n_columns == n, stores = last && target.keep == nullptr;
        for (int64_t p = 0; p < n_panels; ++p) {
            ops.expand_panel[format]({.rows = rows + p * kPanelRows * row_bytes,
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
                                     bytes_of(in.n_columns(next_k)), n_tiles);
            const unsigned char* packed = in.tile(k, 0);
            for (int64_t tile = 0; tile < n_tiles; ++tile, packed += tile_bytes) {
                float* tile_sums = sums + (p * n_tiles + tile) * kTileWidth * kPanelRows;
                if (k == 0) std::fill_n(tile_sums, kTileWidth * kPanelRows, 0.0f);
                prefetcher.step();
                if (stores) fetch_target(target, first_row + p * kPanelRows, tile + 1);
                multiply_tile({.panel = panel,
                               .scales = scales,
                               .x = reinterpret_cast<const int8_t*>(packed),
                               .info = reinterpret_cast<const float*>(packed + in.code_bytes(k)),
                               .n_groups = n_columns / traits.group,
                               .narrow = in.is_narrow(k, tile),
                               .ahead = packed + 2 * tile_bytes,
                               .n_tokens = in.n_tokens() - tile * kTileWidth,
                               .c = tile_sums});
                // At once, so that memory takes the results while the next tiles are computed.
                const int64_t first_token = tile * kTileWidth, row = first_row + p * kPanelRows;
                if (stores)
                    store_tile(ops, target, row, first_token, tile_sums,
                               target.y + first_token * view.n_rows() + row, view.n_rows());
                else if (last && wraps)
                    keep_tile(ops, target, first_row, n_panels, tile,
                              sums + tile * kTileWidth * kPanelRows);
            }
        }
    }
}

int64_t PanelProduct::panels_per_piece(int64_t n_out, int n_threads) {
    return std::clamp<int64_t>(n_panels_of(n_out) / (kPiecesPerThread * n_threads), 1, kMostPanels);
}

void PanelProduct::multiply(const TierOps& ops, ThreadPool& pool, const Target& target) {
    const int64_t n_out = target.weight.n_out(), n_panels = n_panels_of(n_out);
    const int64_t most = panels_per_piece(n_out, pool.n_threads());
    // The last pieces are small, so that threads end together. What is kept comes in whole slices.
    pieces_.assign(1, 0);
    while (pieces_.back() < n_panels) {
        const int64_t n_left = n_panels - pieces_.back();
        const int64_t few = std::clamp<int64_t>(n_left / (2 * pool.n_threads()), 1, most);
        pieces_.push_back(pieces_.back() + std::min(target.keep != nullptr ? most : few, n_left));
    }
    pool.parallel_for(std::ssize(pieces_) - 1, 1, [&](int64_t piece, int64_t, int thread) {
        const int64_t begin = pieces_[static_cast<size_t>(piece)];
        const int64_t end = pieces_[static_cast<size_t>(piece) + 1];
        multiply_panels(ops, packed_, target, begin * kPanelRows, end - begin,
                        threads_[static_cast<size_t>(thread)]);
    });
}

void PanelProduct::pack_tile(const TierOps& ops, int64_t tile, const float* (&rows)[kTileWidth]) {
    for (int64_t k = 0; k < packed_.n_columns(); k += kSliceColumns) {
        packed_.pack(ops, k, tile, rows);
        for (const float*& row : rows) row += kSliceColumns;
    }
}

void PanelProduct::pack(const TierOps& ops, ThreadPool& pool, QuantFormat format, const float* x,
                        int64_t n_tokens, int64_t n, std::span<const int64_t> order) {
    packed_.reset(format, n_tokens, n);
    pool.parallel_for(packed_.n_tiles(), 1, [&](int64_t tile, int64_t, int) {
        const float* rows[kTileWidth];
        for (int64_t i = 0; i < kTileWidth; ++i) {
            const int64_t token = packed_.token(tile, i);
            rows[i] = x + (order.empty() ? token : order[static_cast<size_t>(token)]) * n;
        }
        pack_tile(ops, tile, rows);
    });
}

void PanelProduct::pack_made(const TierOps& ops, ThreadPool& pool, QuantFormat format,
                             int64_t n_tokens, int64_t n, const MakeRow& make) {
    packed_.reset(format, n_tokens, n);
    pool.parallel_for(packed_.n_tiles(), 1, [&](int64_t tile, int64_t, int thread) {
        float* made = threads_[static_cast<size_t>(thread)].rows.get(kTileWidth * n);
        const float* rows[kTileWidth];
        const int64_t first = tile * kTileWidth;
        for (int64_t i = 0; i < kTileWidth; ++i) {
            const int64_t place = packed_.token(tile, i) - first;
            if (place == i) make(first + i, made + i * n);
            rows[i] = made + place * n;
        }
        pack_tile(ops, tile, rows);
    });
}

void PanelProduct::run(const TierOps& ops, ThreadPool& pool, QuantFormat format,
                       const Weight& weight, const float* x, int64_t n_tokens, const float* bias,
                       Epilogue epilogue, float* y, std::span<const int64_t> order) {
    const int64_t n = weight.n_in();
    for (int64_t t = 0; t < n_tokens; t += kMostTokens) {
        const int64_t n_block = std::min(kMostTokens, n_tokens - t);
        if (order.empty())
            pack(ops, pool, format, x + t * n, n_block, n);
        else
            pack(ops, pool, format, x, n_block, n,
                 order.subspan(static_cast<size_t>(t), static_cast<size_t>(n_block)));
        multiply_packed(ops, pool, weight, bias, epilogue, y + t * weight.n_out());
    }
}

void PanelProduct::multiply_packed(const TierOps& ops, ThreadPool& pool, const Weight& weight,
                                   const float* bias, Epilogue epilogue, float* y) {
    NEMO_ASSERT(weight.n_in() == packed_.n_columns());
    multiply(ops, pool, {weight, bias, epilogue, packed_.n_tokens(), y, nullptr});
}

bool PanelProduct::can_pack_results(int64_t n_out, int n_threads) {
    return panels_per_piece(n_out, n_threads) == kMostPanels;
}

void PanelProduct::multiply_and_pack(const TierOps& ops, ThreadPool& pool, const Weight& weight,
                                     const float* bias, Epilogue epilogue, QuantFormat next) {
    NEMO_ASSERT(weight.n_in() == packed_.n_columns());
    results_.reset(next, packed_.n_tokens(), weight.n_out());
    multiply(ops, pool, {weight, bias, epilogue, packed_.n_tokens(), nullptr, &results_});
    std::swap(packed_, results_);
}

}  // namespace nemo
