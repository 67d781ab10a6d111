// Sizes as people write and read them: "6GiB", "500 MB", "1234567".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nemo {

// A number, a fraction allowed, and a unit in any case: none or B; kB, MB, GB, TB (powers of 1000);
// KiB, MiB, GiB, TiB, or short K, M, G, T (powers of 1024). Rounded down. Throws Error{usage} for
// anything else, for less than one byte and for more than 2^60.
uint64_t parse_byte_size(std::string_view text);

// For people: "12 B", "2.86 MiB".
std::string size_text(uint64_t n_bytes);

}  // namespace nemo
