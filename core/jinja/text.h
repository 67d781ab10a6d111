// Strings of the template language: UTF-8 text in which every character remembers whether the
// template wrote it (trusted) or it came from outside. Operations cut and join such texts; the
// marks go along. Comparing and searching look at the characters only.
#pragma once

#include "core/marked_text.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::jinja {

class Runtime;

// Valid UTF-8. `runs` covers the bytes without gaps: run i ends before byte runs[i].end and starts
// where run i-1 ends; neighbours differ in `trusted`.
struct Text {
    struct Run {
        size_t end;
        bool trusted;
    };

    std::string bytes;
    std::vector<Run> runs;
    size_t n_chars = 0;

    bool is_ascii() const { return n_chars == bytes.size(); }
    bool trusted_at(size_t offset) const;
};

using TextPtr = std::shared_ptr<const Text>;

// Joins pieces into a Text within the limits of a runtime.
class TextBuilder {
public:
    explicit TextBuilder(Runtime& runtime) : runtime_(runtime) {}

    void append(std::string_view bytes, bool trusted);
    void append(const Text& text) { append(text, 0, text.bytes.size()); }
    // Bytes [begin, end), on borders of characters.
    void append(const Text& text, size_t begin, size_t end);
    const std::string& bytes() const { return text_.bytes; }
    TextPtr finish();

private:
    Runtime& runtime_;
    Text text_;
};

TextPtr make_text(std::string bytes, bool trusted);
MarkedText to_marked_text(const Text& text);

// Indices below are bytes unless they are named chars.
TextPtr substring(Runtime& runtime, const TextPtr& text, size_t begin, size_t end);
size_t byte_offset(const Text& text, size_t char_index);
// std::string::npos if absent. The work of the worst case is charged before.
size_t find_text(Runtime& runtime, std::string_view text, std::string_view wanted, size_t begin,
                 bool from_right = false);
TextPtr reverse_text(Runtime& runtime, const Text& text);
TextPtr replace_text(Runtime& runtime, const TextPtr& text, const Text& old_text,
                     const Text& new_text, int64_t max_count);

enum class Side { both, left, right };
// Without `chars`, whitespace goes.
TextPtr strip_text(Runtime& runtime, const TextPtr& text, const Text* chars, Side side);

// Separator nullptr: runs of whitespace. max_splits < 0: no limit.
std::vector<TextPtr> split_text(Runtime& runtime, const TextPtr& text, const Text* separator,
                                int64_t max_splits, bool from_right);
std::vector<TextPtr> split_lines(Runtime& runtime, const TextPtr& text, bool keep_ends);

enum class Case { upper, lower, title, capitalize };
TextPtr change_case(Runtime& runtime, const Text& text, Case wanted);
std::string lower_bytes(std::string_view text);

// As Python's str methods of these names answer.
enum class CharClass { alpha, digit, alnum, space, upper, lower };
bool is_all(std::string_view text, CharClass wanted);

// Whitespace as Python's str.isspace() has it.
size_t n_leading_whitespace(std::string_view text);
size_t n_trailing_whitespace(std::string_view text);
// What repr() shows as itself.
bool is_printable(char32_t code_point);

}  // namespace nemo::jinja
