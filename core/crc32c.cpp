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
// An instruction waits for the one before it three times as long as it takes, so three lanes of
// this length are computed side by side.
constexpr size_t kLaneBytes = 4096;
constexpr size_t kLanes = 3;

__attribute__((target("sse4.2"))) uint64_t step(uint64_t value, const std::byte* bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return _mm_crc32_u64(value, word);
}

// Without the XORs at both ends, which makes it linear in `value`.
__attribute__((target("sse4.2"))) uint32_t run_over(std::span<const std::byte> bytes,
                                                    uint32_t value) {
    uint64_t wide = value;
    size_t i = 0;
    for (; i + kStride <= bytes.size(); i += kStride) wide = step(wide, bytes.data() + i);
    value = static_cast<uint32_t>(wide);
    for (; i < bytes.size(); ++i) value = _mm_crc32_u8(value, static_cast<unsigned char>(bytes[i]));
    return value;
}

// What becomes of a value when a lane of zeros follows: one table per byte of the value.
class ZeroLane {
public:
    ZeroLane() {
        static constexpr std::byte kZeros[kLaneBytes] = {};
        for (size_t k = 0; k < tables_.size(); ++k)
            for (uint32_t bit = 1; bit < 256; bit *= 2) {
                tables_[k][bit] = run_over(kZeros, bit << (8 * k));
                for (uint32_t rest = 1; rest < bit; ++rest)
                    tables_[k][bit + rest] = tables_[k][bit] ^ tables_[k][rest];
            }
    }

    uint32_t after(uint32_t value) const {
        return tables_[0][value & 0xFFu] ^ tables_[1][(value >> 8) & 0xFFu] ^
               tables_[2][(value >> 16) & 0xFFu] ^ tables_[3][value >> 24];
    }

private:
    std::array<std::array<uint32_t, 256>, 4> tables_ = {};
};

__attribute__((target("sse4.2"))) uint32_t crc32c_hardware(std::span<const std::byte> bytes,
                                                           uint32_t previous) {
    static const ZeroLane zero_lane;
    uint32_t value = ~previous;
    for (; bytes.size() >= kLanes * kLaneBytes; bytes = bytes.subspan(kLanes * kLaneBytes)) {
        uint64_t first = value, second = 0, third = 0;
        for (const std::byte *at = bytes.data(), *end = at + kLaneBytes; at < end; at += kStride) {
            first = step(first, at);
            second = step(second, at + kLaneBytes);
            third = step(third, at + 2 * kLaneBytes);
        }
        value = zero_lane.after(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
        value = zero_lane.after(value) ^ static_cast<uint32_t>(third);
    }
    return ~run_over(bytes, value);
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
