// Finding words in a text whatever their case, and the lines around them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

// Lower case, code point by code point.
char32_t lower_case(char32_t code_point);
std::string lower_case(std::string_view text);

// Whether it separates the words of a search.
constexpr bool is_word_space(char32_t code_point) {
    return code_point <= U' ' || code_point == U'\u3000';
}

struct TextRange {
    size_t begin = 0;  // bytes
    size_t end = 0;
};

// The first place of `word`, which is in lower case, in any case; it is not empty.
std::optional<TextRange> find_word(std::string_view text, std::string_view word);

struct Snippet {
    std::string text;  // one line, "…" where something was left out
    TextRange match;   // in `text`; empty if the words are not in it
};
// A few words before and after the first place of the first word that is in `text`.
Snippet make_snippet(std::string_view text, const std::vector<std::string>& words);

}  // namespace nemo
