#include "core/tokenizer/bpe_unicode.h"

#include "core/utf8.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

namespace nemo {
namespace {

enum class Kind : uint8_t { upper, lower, modifier, other, mark, number };

struct Range {
    char32_t first;
    char32_t last;
    Kind kind;
};

// Letters (by case), marks and numbers of Unicode 16.0 that Unicode 14.0 had not assigned.
constexpr Range kAdditions[] = {
    {0x897, 0x897, Kind::mark},         {0xCF3, 0xCF3, Kind::mark},
    {0xECE, 0xECE, Kind::mark},         {0x1C89, 0x1C89, Kind::upper},
    {0x1C8A, 0x1C8A, Kind::lower},      {0xA7CB, 0xA7CC, Kind::upper},
    {0xA7CD, 0xA7CD, Kind::lower},      {0xA7DA, 0xA7DA, Kind::upper},
    {0xA7DB, 0xA7DB, Kind::lower},      {0xA7DC, 0xA7DC, Kind::upper},
    {0x105C0, 0x105F3, Kind::other},    {0x10D40, 0x10D49, Kind::number},
    {0x10D4A, 0x10D4D, Kind::other},    {0x10D4E, 0x10D4E, Kind::modifier},
    {0x10D4F, 0x10D4F, Kind::other},    {0x10D50, 0x10D65, Kind::upper},
    {0x10D69, 0x10D6D, Kind::mark},     {0x10D6F, 0x10D6F, Kind::modifier},
    {0x10D70, 0x10D85, Kind::lower},    {0x10EC2, 0x10EC4, Kind::other},
    {0x10EFC, 0x10EFF, Kind::mark},     {0x1123F, 0x11240, Kind::other},
    {0x11241, 0x11241, Kind::mark},     {0x11380, 0x11389, Kind::other},
    {0x1138B, 0x1138B, Kind::other},    {0x1138E, 0x1138E, Kind::other},
    {0x11390, 0x113B5, Kind::other},    {0x113B7, 0x113B7, Kind::other},
    {0x113B8, 0x113C0, Kind::mark},     {0x113C2, 0x113C2, Kind::mark},
    {0x113C5, 0x113C5, Kind::mark},     {0x113C7, 0x113CA, Kind::mark},
    {0x113CC, 0x113D0, Kind::mark},     {0x113D1, 0x113D1, Kind::other},
    {0x113D2, 0x113D2, Kind::mark},     {0x113D3, 0x113D3, Kind::other},
    {0x113E1, 0x113E2, Kind::mark},     {0x116D0, 0x116E3, Kind::number},
    {0x11BC0, 0x11BE0, Kind::other},    {0x11BF0, 0x11BF9, Kind::number},
    {0x11F00, 0x11F01, Kind::mark},     {0x11F02, 0x11F02, Kind::other},
    {0x11F03, 0x11F03, Kind::mark},     {0x11F04, 0x11F10, Kind::other},
    {0x11F12, 0x11F33, Kind::other},    {0x11F34, 0x11F3A, Kind::mark},
    {0x11F3E, 0x11F42, Kind::mark},     {0x11F50, 0x11F59, Kind::number},
    {0x11F5A, 0x11F5A, Kind::mark},     {0x1342F, 0x1342F, Kind::other},
    {0x13440, 0x13440, Kind::mark},     {0x13441, 0x13446, Kind::other},
    {0x13447, 0x13455, Kind::mark},     {0x13460, 0x143FA, Kind::other},
    {0x16100, 0x1611D, Kind::other},    {0x1611E, 0x1612F, Kind::mark},
    {0x16130, 0x16139, Kind::number},   {0x16D40, 0x16D42, Kind::modifier},
    {0x16D43, 0x16D6A, Kind::other},    {0x16D6B, 0x16D6C, Kind::modifier},
    {0x16D70, 0x16D79, Kind::number},   {0x18CFF, 0x18CFF, Kind::other},
    {0x1B132, 0x1B132, Kind::other},    {0x1B155, 0x1B155, Kind::other},
    {0x1CCF0, 0x1CCF9, Kind::number},   {0x1D2C0, 0x1D2D3, Kind::number},
    {0x1DF25, 0x1DF2A, Kind::lower},    {0x1E030, 0x1E06D, Kind::modifier},
    {0x1E08F, 0x1E08F, Kind::mark},     {0x1E4D0, 0x1E4EA, Kind::other},
    {0x1E4EB, 0x1E4EB, Kind::modifier}, {0x1E4EC, 0x1E4EF, Kind::mark},
    {0x1E4F0, 0x1E4F9, Kind::number},   {0x1E5D0, 0x1E5ED, Kind::other},
    {0x1E5EE, 0x1E5EF, Kind::mark},     {0x1E5F0, 0x1E5F0, Kind::other},
    {0x1E5F1, 0x1E5FA, Kind::number},   {0x2B739, 0x2B739, Kind::other},
    {0x2EBF0, 0x2EE5D, Kind::other},    {0x31350, 0x323AF, Kind::other},
};

// Stand-ins of three and of four bytes, by Kind. A three-byte one exists where kAdditions needs it.
constexpr std::array<char32_t, 6> kThreeByte = {0x1E00, 0x1E01, 0x1D2C, 0x3041, 0x0900, 0x0966};
constexpr std::array<char32_t, 6> kFourByte = {0x10400, 0x10428, 0x10780,
                                               0x20000, 0x10A01, 0x104A0};

// Every addition is U+0897 or later, so its first byte is at least this.
constexpr uint8_t kLeastLeadByte = 0xE0;

const Range* find_addition(char32_t code_point) {
    const Range* range =
        std::lower_bound(std::begin(kAdditions), std::end(kAdditions), code_point,
                         [](const Range& r, char32_t value) { return r.last < value; });
    return range != std::end(kAdditions) && code_point >= range->first ? range : nullptr;
}

}  // namespace

std::optional<std::string> with_older_characters(std::string_view text) {
    std::optional<std::string> replaced;
    for (size_t offset = 0; offset < text.size(); ++offset) {
        if (static_cast<uint8_t>(text[offset]) < kLeastLeadByte) continue;
        const CodePoint code_point = decode_utf8(text, offset);
        const Range* range = find_addition(code_point.value);
        if (range == nullptr) continue;
        if (!replaced) replaced.emplace(text);
        const auto kind = static_cast<size_t>(range->kind);
        std::string stand_in;
        append_utf8(stand_in, code_point.n_bytes == 3 ? kThreeByte[kind] : kFourByte[kind]);
        replaced->replace(offset, stand_in.size(), stand_in);
    }
    return replaced;
}

}  // namespace nemo
