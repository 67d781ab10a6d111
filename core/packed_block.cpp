#include "core/packed_block.h"

#include "core/crc32c.h"
#include "core/error.h"

#include <zstd.h>

#include <cstring>

namespace nemo {

namespace {

// Higher levels take longer and find no more.
constexpr int kLevel = 1;

template <size_t kWidth>
void cut_into_planes(const std::byte* raw, size_t n, std::byte* planes) {
    for (size_t i = 0; i < n; ++i)
        for (size_t k = 0; k < kWidth; ++k) planes[k * n + i] = raw[i * kWidth + k];
}

template <size_t kWidth>
void join_planes(const std::byte* planes, size_t n, std::byte* raw) {
    for (size_t i = 0; i < n; ++i)
        for (size_t k = 0; k < kWidth; ++k) raw[i * kWidth + k] = planes[k * n + i];
}

size_t decompress(std::span<const std::byte> stored, std::span<std::byte> raw) {
    return ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
}

}  // namespace

BlockEntry PackedBlock::entry() const {
    return {stored.size(), crc32c(stored)};
}

PackedBlock pack_block(std::span<const std::byte> raw, size_t width) {
    NEMO_ASSERT((width == 1 || width == 2 || width == 4) && raw.size() % width == 0);
    std::vector<std::byte> planes(width > 1 ? raw.size() : 0);
    if (width == 2) cut_into_planes<2>(raw.data(), raw.size() / 2, planes.data());
    if (width == 4) cut_into_planes<4>(raw.data(), raw.size() / 4, planes.data());
    const std::span<const std::byte> input = width > 1 ? planes : raw;
    PackedBlock block;
    block.stored.resize(ZSTD_compressBound(input.size()));
    const size_t n =
        ZSTD_compress(block.stored.data(), block.stored.size(), input.data(), input.size(), kLevel);
    NEMO_ASSERT(ZSTD_isError(n) == 0);
    block.stored.resize(n);
    return block;
}

void check_block(std::span<const std::byte> stored, const BlockEntry& entry,
                 std::string_view what) {
    const uint32_t crc = crc32c(stored);
    if (crc != entry.crc)
        fail(ErrorCode::bad_file, "{}: checksum {:08x}, but its {} bytes have {:08x}", what,
             entry.crc, stored.size(), crc);
}

void unpack_block(std::span<const std::byte> stored, const BlockEntry& entry, size_t width,
                  std::span<std::byte> raw, std::string_view what, BlockBuffer& planes) {
    NEMO_ASSERT((width == 1 || width == 2 || width == 4) && raw.size() % width == 0);
    check_block(stored, entry, what);
    if (width > 1) planes.reserve(raw.size());
    const size_t n = decompress(stored, width > 1 ? std::span(planes.data(), raw.size()) : raw);
    if (ZSTD_isError(n) != 0)
        fail(ErrorCode::bad_file, "{}: cannot be decompressed: {}", what, ZSTD_getErrorName(n));
    if (n != raw.size())
        fail(ErrorCode::bad_file, "{}: decompresses to {} bytes, but {} are needed", what, n,
             raw.size());
    if (width == 2) join_planes<2>(planes.data(), raw.size() / 2, raw.data());
    if (width == 4) join_planes<4>(planes.data(), raw.size() / 4, raw.data());
}

}  // namespace nemo
