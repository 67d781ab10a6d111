// GPT-2's byte-level alphabet: how a vocabulary file spells arbitrary bytes as printable text. The
// 188 bytes that are visible Latin-1 characters stand for themselves; the other 68 are, in order,
// U+0100, U+0101, ... (so a space is U+0120).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemo {

// The bytes that `token` spells, or nothing if it has a character outside the alphabet.
std::optional<std::string> bytes_from_alphabet(std::string_view token);

// The spelling of any bytes.
std::string alphabet_from_bytes(std::string_view bytes);

}  // namespace nemo
