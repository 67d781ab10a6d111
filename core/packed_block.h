// Arrays of numbers, compressed for files.
//
// First the elements are cut into planes, byte k of all of them side by side: signs and exponents
// of neighbours are alike, low bits are noise, and zstd passes noise on at the speed of memory.
// The planes are worth 10 to 15% of the size of recurrent states and of caches, and twice the speed
// of reading.
#pragma once

#include "core/block_buffer.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

// What a file must say about a block to have it back.
struct BlockEntry {
    uint64_t n_stored = 0;
    uint32_t crc = 0;  // CRC-32C of the stored bytes
};

struct PackedBlock {
    std::vector<std::byte> stored;
    BlockEntry entry() const;
};

// `width`: bytes of an element, 1, 2 or 4, which must divide the size.
PackedBlock pack_block(std::span<const std::byte> raw, size_t width);

// Throws Error{bad_file} that starts with `what` if `stored` is not what the entry was made of.
void check_block(std::span<const std::byte> stored, const BlockEntry& entry, std::string_view what);

// check_block() comes first. Throws Error{bad_file} that starts with `what` if `stored` is
// not a block of raw.size() bytes; never writes elsewhere than into `raw` and reserves no more
// memory than that, in `planes`, for which fresh memory at every call would cost more than the
// rest.
void unpack_block(std::span<const std::byte> stored, const BlockEntry& entry, size_t width,
                  std::span<std::byte> raw, std::string_view what, BlockBuffer& planes);

}  // namespace nemo
