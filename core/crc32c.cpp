#include "core/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace nemo {

namespace {

constexpr uint32_t kPolynomial = 0x82F63B78u;
constexpr size_t kStride = 8;  // bytes per step, one table each

using Tables = std::array<std::array<uint32_t, 256>, kStride>;

// tables[k][b]: what byte b contributes when k more bytes follow it in the same step.
constexpr Tables make_tables() {
    Tables tables = {};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1u) != 0 ? kPolynomial : 0u);
        tables[0][byte] = value;
    }
    for (size_t k = 1; k < kStride; ++k)
        for (size_t byte = 0; byte < 256; ++byte) {
            const uint32_t before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFFu];
        }
    return tables;
}

constexpr Tables kTables = make_tables();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_hardware(std::span<const std::byte> bytes,
                                                           uint32_t previous) {
    uint64_t wide = ~previous;
    size_t i = 0;
    for (; i + kStride <= bytes.size(); i += kStride) {
        uint64_t word;
        std::memcpy(&word, bytes.data() + i, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    auto value = static_cast<uint32_t>(wide);
    for (; i < bytes.size(); ++i) value = _mm_crc32_u8(value, static_cast<unsigned char>(bytes[i]));
    return ~value;
}
#endif

}  // namespace

uint32_t detail::crc32c_portable(std::span<const std::byte> bytes, uint32_t previous) {
    uint32_t value = ~previous;
    size_t i = 0;
    for (; i + kStride <= bytes.size(); i += kStride) {
        uint32_t next = 0;
        for (size_t k = 0; k < kStride; ++k) {
            uint32_t byte = std::to_integer<uint32_t>(bytes[i + k]);
            if (k < sizeof value) byte ^= (value >> (8 * k)) & 0xFFu;
            next ^= kTables[kStride - 1 - k][byte];
        }
        value = next;
    }
    for (; i < bytes.size(); ++i)
        value = (value >> 8) ^ kTables[0][(value ^ std::to_integer<uint32_t>(bytes[i])) & 0xFFu];
    return ~value;
}

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous) {
#if defined(__x86_64__)
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") > 0;
    if (has_instruction) return crc32c_hardware(bytes, previous);
#endif
    return detail::crc32c_portable(bytes, previous);
}

}  // namespace nemo
