// How keys and values of past tokens lie in memory: the same for every device and number format.
//
// The rows of tokens come in pages of 256; in a page, a cache has all its rows of the first K/V
// head, then those of the next. So attention reads a head's rows in one stream, a cache grows by a
// page, what was written never moves, and sequences with the same beginning share its pages. A
// page holds the caches of all layers, one behind the other. A row holds head_dim values, then
// zeros up to a multiple of 32, which is the block size of Q8_0 and a whole number of vectors.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace nemo {

constexpr int64_t kKvPageRows = 256;

// Number formats of a session's caches: F32, F16 or Q8_0.
struct KvTypes {
    DType keys = DType::f16;
    DType values = DType::f16;
};

struct KvLayout {
    DType type = DType::f16;
    int64_t n_heads = 0;  // that keys or values are stored for
    int64_t head_dim = 0;

    int64_t padded_dim() const { return (head_dim + 31) / 32 * 32; }
    // Of one head.
    int64_t row_bytes() const {
        const DTypeInfo& info = dtype_info(type);
        return padded_dim() / info.block_size * info.block_bytes;
    }
    // Of all heads.
    int64_t token_bytes() const { return n_heads * row_bytes(); }
    // Of the part of a page: always a multiple of 4.
    int64_t page_bytes() const { return kKvPageRows * token_bytes(); }
    // Of a head's row, from the start of the part.
    int64_t offset(int64_t row_in_page, int64_t head) const {
        return (head * kKvPageRows + row_in_page) * row_bytes();
    }
};

// Memory of a backend in that layout: the part of each page that starts at byte `offset`.
struct KvCache {
    KvLayout layout;
    std::byte* const* pages = nullptr;  // page i has rows [256 i, 256 i + 256)
    int64_t offset = 0;

    std::byte* row(int64_t row, int64_t head) const {
        return pages[row / kKvPageRows] + offset + layout.offset(row % kKvPageRows, head);
    }
};

}  // namespace nemo
