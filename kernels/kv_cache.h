// How keys and values of past tokens lie in memory: the same for every device and number format.
//
// The rows of tokens come in pages of 256; a page has all its rows of the first K/V head, then
// those of the next. So attention reads a head's rows in one stream, a cache grows by appending
// pages, and what was written never moves inside it. A row holds head_dim values, then zeros up to
// a multiple of 32, which is the block size of Q8_0 and a whole number of vectors.
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
    // Of a cache with room for n_rows tokens: whole pages, always a multiple of 4.
    int64_t cache_bytes(int64_t n_rows) const {
        return (n_rows + kKvPageRows - 1) / kKvPageRows * kKvPageRows * token_bytes();
    }
    // Of a head's row, from the start of the cache.
    int64_t offset(int64_t row, int64_t head) const {
        const int64_t page = row / kKvPageRows, row_in_page = row % kKvPageRows;
        return ((page * n_heads + head) * kKvPageRows + row_in_page) * row_bytes();
    }
};

// Memory of a backend in that layout.
struct KvCache {
    KvLayout layout;
    std::byte* data = nullptr;

    std::byte* row(int64_t row, int64_t head) const { return data + layout.offset(row, head); }
};

}  // namespace nemo
