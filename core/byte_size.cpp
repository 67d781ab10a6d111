#include "core/byte_size.h"

#include "core/error.h"

#include <cctype>
#include <charconv>
#include <iterator>

namespace nemo {

namespace {

// 0 for an unknown unit.
double unit_bytes(std::string_view text) {
    std::string unit;
    for (const char c : text)
        unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (unit.empty() || unit == "b") return 1;
    const size_t power = std::string_view("kmgt").find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || !(rest.empty() || rest == "b" || rest == "ib")) return 0;
    double bytes = 1;
    for (size_t i = 0; i <= power; ++i) bytes *= rest == "b" ? 1000 : 1024;
    return bytes;
}

}  // namespace

uint64_t parse_byte_size(std::string_view text) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    const double n_bytes = number * unit_bytes(unit);
    if (error != std::errc{} || !(n_bytes >= 1) || n_bytes > 0x1p60) {
        fail(ErrorCode::usage, "{} is no size; write it as 6GiB, 500MB or a number of bytes", text);
    }
    return static_cast<uint64_t>(n_bytes);
}

std::string size_text(uint64_t n_bytes) {
    constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
    if (n_bytes < 1024) return fmt::format("{} B", n_bytes);
    auto value = static_cast<double>(n_bytes) / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
    return fmt::format("{:.2f} {}", value, kUnits[unit]);
}

}  // namespace nemo
