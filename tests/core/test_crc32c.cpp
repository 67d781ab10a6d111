// The checksum against its published check values, and its two implementations against each other.
#include "core/crc32c.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace nemo;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

TEST_CASE("known values: the check string, and RFC 3720's examples") {
    CHECK(crc32c({}) == 0);
    CHECK(crc32c(bytes_of("123456789")) == 0xE3069283u);
    CHECK(crc32c(bytes_of(std::string(32, '\0'))) == 0x8A9136AAu);
    CHECK(crc32c(bytes_of(std::string(32, '\xff'))) == 0x62A8AB43u);
}

TEST_CASE("both implementations agree, in any pieces") {
    std::string text;
    uint32_t state = 1;
    for (int i = 0; i < 40'000; ++i) {
        state = state * 1664525u + 1013904223u;
        text.push_back(static_cast<char>(state >> 24));
    }
    const uint32_t whole = crc32c(bytes_of(text));
    CHECK(detail::crc32c_portable(bytes_of(text), 0) == whole);
    for (size_t cut = 0; cut <= text.size(); cut += cut < 1000 ? 37 : 997) {
        const std::string_view first = std::string_view(text).substr(0, cut);
        const std::string_view rest = std::string_view(text).substr(cut);
        CHECK(crc32c(bytes_of(rest), crc32c(bytes_of(first))) == whole);
        CHECK(detail::crc32c_portable(bytes_of(rest), crc32c(bytes_of(first))) == whole);
    }
}

TEST_CASE("every flipped bit shows") {
    const std::string text = "a block of weights";
    for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
        std::string flipped = text;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        CHECK(crc32c(bytes_of(flipped)) != crc32c(bytes_of(text)));
    }
}
