#include "core/tokenizer/tokenizer_added.h"

#include "core/tokenizer/bpe_splitter.h"
#include "core/utf8.h"

#include <algorithm>

namespace nemo {
namespace {

// Rust's \s and \w, which decide what lstrip, rstrip and single_word mean.
bool is_white_space(char32_t c) {
    return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool is_word_character(char32_t c) {
    static const RegexSplitter word("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]",
                                    "word characters");
    std::string text;
    append_utf8(text, c);
    return word.matches(text);
}

size_t start_of_last_code_point(std::string_view text) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    return start;
}

bool starts_with_word(std::string_view text) {
    return !text.empty() && is_word_character(decode_utf8(text, 0).value);
}

bool ends_with_word(std::string_view text) {
    return !text.empty() &&
           is_word_character(decode_utf8(text, start_of_last_code_point(text)).value);
}

size_t n_leading_space_bytes(std::string_view text) {
    size_t offset = 0;
    while (offset < text.size()) {
        const CodePoint code_point = decode_utf8(text, offset);
        if (!is_white_space(code_point.value)) break;
        offset += static_cast<size_t>(code_point.n_bytes);
    }
    return offset;
}

std::string_view without_trailing_space(std::string_view text) {
    while (!text.empty()) {
        const size_t start = start_of_last_code_point(text);
        if (!is_white_space(decode_utf8(text, start).value)) break;
        text = text.substr(0, start);
    }
    return text;
}

bool looks_like_markup(std::string_view text) {
    return (text.starts_with('<') && text.ends_with('>')) ||
           (text.starts_with('[') && text.ends_with(']'));
}

}  // namespace

bool needs_trust(const TokenizerData& data, int32_t id) {
    switch (data.types[static_cast<size_t>(id)]) {
        case TokenType::normal:
        case TokenType::byte:
            return false;
        case TokenType::user_defined:
            return looks_like_markup(data.tokens[static_cast<size_t>(id)]);
        case TokenType::control:
        case TokenType::unknown:
        case TokenType::unused:
            break;
    }
    return true;
}

AddedTokens::AddedTokens(const TokenizerData& data) {
    for (size_t i = 0; i < data.tokens.size(); ++i) {
        const TokenType type = data.types[i];
        const bool is_added = type == TokenType::control || type == TokenType::unknown ||
                              type == TokenType::user_defined;
        const auto id = static_cast<int32_t>(i);
        // SentencePiece finds the other user-defined pieces itself, after normalisation.
        const bool is_found_later =
            data.kind == TokenizerKind::sentencepiece && !needs_trust(data, id);
        if (!is_added || is_found_later || data.tokens[i].empty()) continue;
        AddedTokenRule rule{.id = id, .normalized = type == TokenType::user_defined};
        if (const auto special_rule = data.added_rules.find(id);
            special_rule != data.added_rules.end()) {
            rule = special_rule->second;
        }
        EntrySet& set = rule.normalized ? normalized_ : raw_;
        set.entries.push_back({data.tokens[i], rule, needs_trust(data, id)});
        set.starts[static_cast<uint8_t>(data.tokens[i].front())] = true;
    }
    for (EntrySet* set : {&raw_, &normalized_}) {
        std::sort(set->entries.begin(), set->entries.end(),
                  [](const Entry& a, const Entry& b) { return a.text < b.text; });
    }
}

const AddedTokens::Entry* AddedTokens::longest_match(const EntrySet& set, std::string_view text,
                                                     size_t offset, size_t trusted_end) {
    const Entry* best = nullptr;
    // [begin, end): the entries that agree with the text in their first `n` bytes. The shortest of
    // them, sorted first, is a match if it has no more bytes than that.
    auto begin = set.entries.begin();
    auto end = set.entries.end();
    for (size_t n = 0; begin != end; ++n) {
        if (begin->text.size() == n) {
            if (!begin->needs_trust || offset + n <= trusted_end) best = &*begin;
            ++begin;
        }
        if (offset + n == text.size()) break;
        const auto byte = static_cast<uint8_t>(text[offset + n]);
        const auto byte_of = [n](const Entry& entry) {
            return static_cast<uint8_t>(entry.text[n]);
        };
        begin = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) < byte; });
        end = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) == byte; });
    }
    return best;
}

void AddedTokens::split_section(const EntrySet& set, std::string_view text, ByteRange section,
                                std::span<const ByteRange> trusted,
                                std::vector<TextSection>& sections) {
    const std::string_view sentence = text.substr(0, section.end);
    auto range = trusted.begin();
    size_t done = section.begin;
    for (size_t offset = section.begin; offset < section.end;) {
        if (!set.starts[static_cast<uint8_t>(text[offset])]) {
            ++offset;
            continue;
        }
        while (range != trusted.end() && range->end <= offset) ++range;
        const bool is_trusted = range != trusted.end() && range->begin <= offset;
        const Entry* entry = longest_match(set, sentence, offset, is_trusted ? range->end : 0);
        if (entry == nullptr) {
            ++offset;
            continue;
        }
        size_t begin = offset;
        size_t end = offset + entry->text.size();
        offset = end;
        const std::string_view before = sentence.substr(section.begin, begin - section.begin);
        const std::string_view after = sentence.substr(end);
        const AddedTokenRule& rule = entry->rule;
        if (rule.single_word && (ends_with_word(before) || starts_with_word(after))) continue;
        if (rule.lstrip) begin = section.begin + without_trailing_space(before).size();
        if (rule.rstrip) end += n_leading_space_bytes(after);
        // White space that the token before it has taken is gone.
        begin = std::max(begin, done);
        if (done < begin) sections.push_back({{done, begin}, -1});
        sections.push_back({{begin, std::max(begin, end)}, rule.id});
        done = std::max(done, end);
    }
    if (done < section.end) sections.push_back({{done, section.end}, -1});
}

std::vector<TextSection> AddedTokens::split(std::string_view text,
                                            std::span<const ByteRange> trusted) const {
    std::vector<TextSection> raw_sections;
    split_section(raw_, text, {0, text.size()}, trusted, raw_sections);
    if (normalized_.entries.empty()) return raw_sections;
    std::vector<TextSection> sections;
    for (const TextSection& section : raw_sections) {
        if (section.id >= 0) {
            sections.push_back(section);
        } else {
            split_section(normalized_, text, section.range, trusted, sections);
        }
    }
    return sections;
}

}  // namespace nemo
