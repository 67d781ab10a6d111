#include "app/find_text.h"

#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>

namespace nemo {

namespace {

constexpr int kCharactersBefore = 24;
constexpr int kCharactersAfter = 48;

struct Character {
    char32_t lower;
    size_t end;  // the offset behind it
};

Character character_at(std::string_view text, size_t offset) {
    const auto byte = static_cast<unsigned char>(text[offset]);
    if (byte < 0x80) return {lower_case(char32_t{byte}), offset + 1};
    const CodePoint code_point = decode_utf8(text, offset);
    return {lower_case(code_point.value), offset + static_cast<size_t>(code_point.n_bytes)};
}

// Where a match of `word` that starts at `offset` ends.
std::optional<size_t> match_end(std::string_view text, size_t offset, std::string_view word) {
    for (size_t i = 0; i < word.size();) {
        if (offset == text.size()) return std::nullopt;
        const Character found = character_at(text, offset);
        const Character wanted = character_at(word, i);
        if (found.lower != wanted.lower) return std::nullopt;
        offset = found.end;
        i = wanted.end;
    }
    return offset;
}

bool is_continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

size_t step_back(std::string_view text, size_t offset, int n_characters) {
    for (; n_characters > 0 && offset > 0; --n_characters) do
            --offset;
        while (offset > 0 && is_continuation(text[offset]));
    return offset;
}

size_t step_forward(std::string_view text, size_t offset, int n_characters) {
    for (; n_characters > 0 && offset < text.size(); --n_characters) do
            ++offset;
        while (offset < text.size() && is_continuation(text[offset]));
    return offset;
}

std::string on_one_line(std::string_view text) {
    std::string line(text);
    std::ranges::replace_if(
        line, [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
    return line;
}

}  // namespace

char32_t lower_case(char32_t code_point) {
    if (code_point < 0x80)
        return code_point >= 'A' && code_point <= 'Z' ? code_point + 32 : code_point;
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

std::string lower_case(std::string_view text) {
    std::string lower;
    for (size_t offset = 0; offset < text.size();) {
        const Character character = character_at(text, offset);
        append_utf8(lower, character.lower);
        offset = character.end;
    }
    return lower;
}

std::optional<TextRange> find_word(std::string_view text, std::string_view word) {
    const char32_t first = character_at(word, 0).lower;
    for (size_t offset = 0; offset < text.size();) {
        // Most of a text is passed here, without decoding.
        if ((static_cast<unsigned char>(text[offset]) < 0x80) != (first < 0x80)) {
            ++offset;
            continue;
        }
        const Character character = character_at(text, offset);
        if (character.lower == first)
            if (const std::optional<size_t> end = match_end(text, offset, word))
                return TextRange{offset, *end};
        offset = character.end;
    }
    return std::nullopt;
}

Snippet make_snippet(std::string_view text, const std::vector<std::string>& words) {
    TextRange match;
    for (const std::string& word : words) {
        const std::optional<TextRange> found = find_word(text, word);
        if (!found) continue;
        match = *found;
        break;
    }
    const size_t begin = step_back(text, match.begin, kCharactersBefore);
    const size_t end = step_forward(text, match.end, kCharactersAfter);
    Snippet snippet;
    if (begin > 0) snippet.text = "…";
    const size_t shift = snippet.text.size();
    snippet.text += on_one_line(text.substr(begin, end - begin));
    if (end < text.size()) snippet.text += "…";
    snippet.match = {match.begin - begin + shift, match.end - begin + shift};
    return snippet;
}

}  // namespace nemo
