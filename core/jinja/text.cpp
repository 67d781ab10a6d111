#include "core/jinja/text.h"

#include "core/jinja/runtime.h"
#include "core/utf8.h"

#include <algorithm>

namespace nemo::jinja {
namespace {

bool is_continuation(char c) {
    return (c & 0xC0) == 0x80;
}

size_t count_chars(std::string_view bytes) {
    return static_cast<size_t>(
        std::count_if(bytes.begin(), bytes.end(), [](char c) { return !is_continuation(c); }));
}

void extend_runs(std::vector<Text::Run>& runs, size_t end, bool trusted) {
    if (!runs.empty() && runs.back().trusted == trusted) {
        runs.back().end = end;
    } else {
        runs.push_back({end, trusted});
    }
}

// The first run that ends behind `offset`.
size_t run_index(const Text& text, size_t offset) {
    const auto behind = [](size_t value, const Text::Run& run) { return value < run.end; };
    const auto found = std::upper_bound(text.runs.begin(), text.runs.end(), offset, behind);
    return static_cast<size_t>(found - text.runs.begin());
}

bool contains_char(std::string_view set, std::string_view character) {
    return set.find(character) != std::string_view::npos;
}

size_t previous_char(std::string_view bytes, size_t end) {
    do --end;
    while (end > 0 && is_continuation(bytes[end]));
    return end;
}

}  // namespace

bool Text::trusted_at(size_t offset) const {
    const size_t index = run_index(*this, offset);
    return index < runs.size() && runs[index].trusted;
}

void TextBuilder::append(std::string_view bytes, bool trusted) {
    if (bytes.empty()) return;
    runtime_.check_text_size(text_.bytes.size(), bytes.size());
    text_.bytes += bytes;
    extend_runs(text_.runs, text_.bytes.size(), trusted);
}

void TextBuilder::append(const Text& text, size_t begin, size_t end) {
    const std::string_view bytes = text.bytes;
    for (size_t i = run_index(text, begin); begin < end; ++i) {
        const size_t stop = std::min(end, text.runs[i].end);
        append(bytes.substr(begin, stop - begin), text.runs[i].trusted);
        begin = stop;
    }
}

TextPtr TextBuilder::finish() {
    text_.n_chars = count_chars(text_.bytes);
    return std::make_shared<const Text>(std::move(text_));
}

TextPtr make_text(std::string bytes, bool trusted) {
    Text text;
    text.n_chars = count_chars(bytes);
    if (!bytes.empty()) text.runs.push_back({bytes.size(), trusted});
    text.bytes = std::move(bytes);
    return std::make_shared<const Text>(std::move(text));
}

MarkedText to_marked_text(const Text& text) {
    MarkedText marked;
    size_t begin = 0;
    for (const Text::Run& run : text.runs) {
        marked.push_back({text.bytes.substr(begin, run.end - begin), run.trusted});
        begin = run.end;
    }
    return marked;
}

TextPtr substring(Runtime& runtime, const TextPtr& text, size_t begin, size_t end) {
    if (begin == 0 && end == text->bytes.size()) return text;
    TextBuilder builder(runtime);
    builder.append(*text, begin, end);
    return builder.finish();
}

size_t byte_offset(const Text& text, size_t char_index) {
    if (text.is_ascii()) return char_index;
    size_t offset = 0;
    for (; offset < text.bytes.size(); ++offset) {
        if (!is_continuation(text.bytes[offset]) && char_index-- == 0) break;
    }
    return offset;
}

size_t find_text(Runtime& runtime, std::string_view text, std::string_view wanted, size_t begin,
                 bool from_right) {
    // Comparing runs at many bytes per nanosecond; both sizes are below 2^31 by the limit on texts.
    constexpr size_t kBytesPerStep = 1024;
    const size_t n_places = text.size() > wanted.size() ? text.size() - wanted.size() : 0;
    runtime.step(static_cast<int64_t>(n_places * wanted.size() / kBytesPerStep));
    return from_right ? text.rfind(wanted) : text.find(wanted, begin);
}

TextPtr reverse_text(Runtime& runtime, const Text& text) {
    TextBuilder builder(runtime);
    for (size_t end = text.bytes.size(); end > 0;) {
        const size_t begin = previous_char(text.bytes, end);
        builder.append(text, begin, end);
        end = begin;
    }
    return builder.finish();
}

TextPtr replace_text(Runtime& runtime, const TextPtr& text, const Text& old_text,
                     const Text& new_text, int64_t max_count) {
    const std::string& bytes = text->bytes;
    TextBuilder builder(runtime);
    size_t begin = 0;
    // An empty old text is found before every character and at the end.
    size_t found = find_text(runtime, bytes, old_text.bytes, 0);
    for (int64_t i = 0; found != std::string::npos && (max_count < 0 || i < max_count); ++i) {
        runtime.step();
        builder.append(*text, begin, found);
        builder.append(new_text);
        begin = found + old_text.bytes.size();
        if (!old_text.bytes.empty()) {
            found = bytes.find(old_text.bytes, begin);  // charged above, as the rest of one search
        } else if (found >= bytes.size()) {
            break;
        } else {
            found += static_cast<size_t>(decode_utf8(bytes, found).n_bytes);
        }
    }
    builder.append(*text, begin, bytes.size());
    return builder.finish();
}

TextPtr strip_text(Runtime& runtime, const TextPtr& text, const Text* chars, Side side) {
    const std::string_view bytes = text->bytes;
    size_t begin = 0;
    size_t end = bytes.size();
    if (!chars) {
        if (side != Side::right) begin = n_leading_whitespace(bytes);
        if (side != Side::left) end -= n_trailing_whitespace(bytes.substr(begin));
        return substring(runtime, text, begin, end);
    }
    while (side != Side::right && begin < end) {
        const auto n_bytes = static_cast<size_t>(decode_utf8(bytes, begin).n_bytes);
        if (!contains_char(chars->bytes, bytes.substr(begin, n_bytes))) break;
        runtime.step();
        begin += n_bytes;
    }
    while (side != Side::left && begin < end) {
        const size_t last = previous_char(bytes, end);
        if (!contains_char(chars->bytes, bytes.substr(last, end - last))) break;
        runtime.step();
        end = last;
    }
    return substring(runtime, text, begin, end);
}

namespace {

// The borders of the pieces between separators, in order.
using Pieces = std::vector<std::pair<size_t, size_t>>;

Pieces split_at(Runtime& runtime, std::string_view bytes, std::string_view separator,
                int64_t max_splits, bool from_right) {
    Pieces pieces;
    size_t begin = 0;
    size_t end = bytes.size();
    // One search charges for all: together they pass the text once.
    if (find_text(runtime, bytes, separator, 0) == std::string_view::npos) return {{0, end}};
    for (int64_t i = 0; max_splits < 0 || i < max_splits; ++i) {
        const size_t found =
            from_right ? bytes.substr(0, end).rfind(separator) : bytes.find(separator, begin);
        if (found == std::string_view::npos) break;
        runtime.step();
        if (from_right) {
            pieces.emplace_back(found + separator.size(), end);
            end = found;
        } else {
            pieces.emplace_back(begin, found);
            begin = found + separator.size();
        }
    }
    pieces.emplace_back(begin, end);
    if (from_right) std::reverse(pieces.begin(), pieces.end());
    return pieces;
}

// The length of the text before the first whitespace.
size_t n_leading_word(std::string_view bytes) {
    size_t i = 0;
    while (i < bytes.size() && n_leading_whitespace(bytes.substr(i, 4)) == 0) {
        i += static_cast<size_t>(decode_utf8(bytes, i).n_bytes);
    }
    return i;
}

size_t n_trailing_word(std::string_view bytes) {
    size_t end = bytes.size();
    while (end > 0 && n_trailing_whitespace(bytes.substr(previous_char(bytes, end), end)) == 0) {
        end = previous_char(bytes, end);
        bytes = bytes.substr(0, end);
    }
    return end;
}

Pieces split_at_whitespace(Runtime& runtime, std::string_view bytes, int64_t max_splits,
                           bool from_right) {
    Pieces pieces;
    size_t begin = n_leading_whitespace(bytes);
    size_t end = bytes.size() - n_trailing_whitespace(bytes.substr(begin));
    for (int64_t i = 0; begin < end; ++i) {
        runtime.step();
        const std::string_view rest = bytes.substr(begin, end - begin);
        if (max_splits >= 0 && i == max_splits) {
            // The unsplit rest keeps the whitespace on its outer side.
            pieces.emplace_back(from_right ? 0 : begin, from_right ? end : bytes.size());
            break;
        }
        if (from_right) {
            const size_t word = begin + n_trailing_word(rest);
            pieces.emplace_back(word, end);
            end = word - n_trailing_whitespace(bytes.substr(begin, word - begin));
        } else {
            const size_t word_end = begin + n_leading_word(rest);
            pieces.emplace_back(begin, word_end);
            begin = word_end + n_leading_whitespace(bytes.substr(word_end, end - word_end));
        }
    }
    if (from_right) std::reverse(pieces.begin(), pieces.end());
    return pieces;
}

std::vector<TextPtr> cut(Runtime& runtime, const TextPtr& text, const Pieces& pieces) {
    std::vector<TextPtr> parts;
    parts.reserve(pieces.size());
    runtime.step(static_cast<int64_t>(pieces.size()) * 2);
    for (const auto& [begin, end] : pieces) parts.push_back(substring(runtime, text, begin, end));
    return parts;
}

}  // namespace

std::vector<TextPtr> split_text(Runtime& runtime, const TextPtr& text, const Text* separator,
                                int64_t max_splits, bool from_right) {
    if (separator && separator->bytes.empty()) runtime.fail("empty separator");
    return cut(runtime, text,
               separator ? split_at(runtime, text->bytes, separator->bytes, max_splits, from_right)
                         : split_at_whitespace(runtime, text->bytes, max_splits, from_right));
}

std::vector<TextPtr> split_lines(Runtime& runtime, const TextPtr& text, bool keep_ends) {
    const std::string& bytes = text->bytes;
    Pieces pieces;
    size_t begin = 0;
    for (size_t i = 0; i < bytes.size();) {
        const CodePoint point = decode_utf8(bytes, i);
        const auto n_bytes = static_cast<size_t>(point.n_bytes);
        const char32_t c = point.value;
        const bool is_end = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                            c == 0x2028 || c == 0x2029;
        if (!is_end) {
            i += n_bytes;
            continue;
        }
        runtime.step();
        const bool is_pair = c == '\r' && i + 1 < bytes.size() && bytes[i + 1] == '\n';
        const size_t next = i + n_bytes + (is_pair ? 1 : 0);
        pieces.emplace_back(begin, keep_ends ? next : i);
        begin = i = next;
    }
    if (begin < bytes.size()) pieces.emplace_back(begin, bytes.size());
    return cut(runtime, text, pieces);
}

}  // namespace nemo::jinja
