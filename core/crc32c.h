// CRC-32C (Castagnoli: reflected polynomial 0x82F63B78, start and final XOR all ones), the checksum
// of our files: x86 computes it in hardware, so it costs nothing next to a disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nemo {

// Of `bytes`, continuing from the checksum of what came before (0: nothing).
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous = 0);

namespace detail {
// Without the processor's instruction: for other processors, and to test the one against the other.
uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t previous);
}  // namespace detail

}  // namespace nemo
