// Bridges the gap between the Unicode 14 tables of Debian's PCRE2 and the Unicode 16 tables that
// Hugging Face's regular expressions use.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemo {

// `text` with every letter, mark and number that Unicode added in versions 15 and 16 replaced by an
// older character of the same category and length in UTF-8; nothing if there is none.
std::optional<std::string> with_older_characters(std::string_view text);

}  // namespace nemo
