// UTF-8: validation, decoding, encoding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nemo {

struct CodePoint {
    char32_t value;  // U+FFFD for an invalid byte
    int n_bytes;     // bytes consumed, at least 1; an invalid byte consumes exactly one
    bool valid;
};

// The code point at text[offset]; offset < text.size(). Overlong forms, surrogates, values above
// U+10FFFF and truncated sequences are invalid.
CodePoint decode_utf8(std::string_view text, size_t offset);

void append_utf8(std::string& text, char32_t code_point);

bool is_valid_utf8(std::string_view text);

// Every maximal ill-formed subsequence becomes one U+FFFD, as Python's errors="replace" does.
std::string sanitize_utf8(std::string_view text);

// The number of bytes at the end of `text` that are the proper start of a longer code point.
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace nemo
