#include "core/jinja/lexer.h"

#include "core/jinja/text.h"
#include "core/utf8.h"

#include <array>
#include <charconv>
#include <cstdlib>

namespace nemo::jinja {
namespace {

constexpr size_t kMaxSourceBytes = size_t{4} << 20;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

std::string normalize_newlines(std::string_view source) {
    std::string text;
    text.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
        if (source[i] == '\r') {
            text.push_back('\n');
            if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
        } else {
            text.push_back(source[i]);
        }
    }
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

class Lexer {
public:
    Lexer(std::string_view source, std::string_view source_name)
        : source_(normalize_newlines(source)), source_name_(source_name) {}

    std::vector<Token> run() {
        while (offset_ < source_.size()) scan_data();
        add(TokenType::end, source_.size());
        return std::move(tokens_);
    }

private:
    std::string_view rest() const { return std::string_view(source_).substr(offset_); }
    bool at(std::string_view text) const { return rest().substr(0, text.size()) == text; }

    // Positions are asked for in rising order, so the scan for line ends goes on from the last one.
    Position position_of(size_t offset) {
        if (offset < position_offset_) {
            position_offset_ = 0;
            position_ = {};
        }
        for (; position_offset_ < offset; ++position_offset_) {
            const char c = source_[position_offset_];
            if (c == '\n') {
                ++position_.line;
                position_.column = 1;
            } else if ((c & 0xC0) != 0x80) {
                ++position_.column;
            }
        }
        return position_;
    }

    Token& add(TokenType type, size_t offset) {
        tokens_.emplace_back();
        tokens_.back().type = type;
        tokens_.back().position = position_of(offset);
        return tokens_.back();
    }

    template <class... Args>
    [[noreturn]] void fail(size_t offset, fmt::format_string<Args...> format, Args&&... args) {
        fail_at(source_name_, position_of(offset), format, std::forward<Args>(args)...);
    }

    void skip_whitespace() { offset_ += n_leading_whitespace(rest()); }

    // Text up to the next tag, then the tag.
    void scan_data() {
        const size_t begin = offset_;
        size_t tag = begin;
        while (true) {
            tag = source_.find('{', tag);
            if (tag == std::string::npos || tag + 1 >= source_.size()) {
                add_data(begin, source_.size(), ' ', true);
                offset_ = source_.size();
                return;
            }
            const char kind = source_[tag + 1];
            if (kind == '%' || kind == '{' || kind == '#') break;
            ++tag;
        }
        const char kind = source_[tag + 1];
        offset_ = tag + 2;
        const char sign = take_sign();
        add_data(begin, tag, sign, kind == '{');
        line_starting_ = false;
        if (kind == '#') {
            scan_comment(tag);
        } else if (kind == '{') {
            scan_tag(tag, TokenType::variable_begin, TokenType::variable_end, "}}");
        } else if (!scan_raw(tag)) {
            scan_tag(tag, TokenType::block_begin, TokenType::block_end, "%}");
        }
    }

    char take_sign() {
        if (!at("-") && !at("+")) return ' ';
        return source_[offset_++];
    }

    // lstrip_blocks: blanks between the line's start and a block tag go, unless the tag has a '+'.
    void add_data(size_t begin, size_t end, char sign, bool is_variable) {
        std::string_view text = std::string_view(source_).substr(begin, end - begin);
        if (sign == '-') {
            text = text.substr(0, text.size() - n_trailing_whitespace(text));
        } else if (sign != '+' && !is_variable) {
            const size_t newline = text.rfind('\n');
            const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
            const bool starts_line = line > 0 || line_starting_;
            const std::string_view blanks = text.substr(line);
            if (starts_line && n_leading_whitespace(blanks) == blanks.size())
                text = text.substr(0, line);
        }
        if (!text.empty()) add(TokenType::data, begin).text = text;
    }

    // The end of a tag at offset_, with the whitespace that its sign or trim_blocks removes.
    bool take_end(std::string_view end, bool is_block) {
        const char sign = at("-") ? '-' : is_block && at("+") ? '+' : ' ';
        const size_t n_sign = sign == ' ' ? 0 : 1;
        if (rest().substr(n_sign, end.size()) != end) return false;
        offset_ += n_sign + end.size();
        if (sign == '-') {
            skip_whitespace();
        } else if (sign == ' ' && is_block && at("\n")) {
            ++offset_;
        }
        line_starting_ = source_[offset_ - 1] == '\n';
        return true;
    }

    void scan_comment(size_t tag) {
        const size_t begin = offset_;
        const size_t end = source_.find("#}", begin);
        if (end == std::string::npos) fail(tag, "this comment has no end");
        const bool has_sign = end > begin && (source_[end - 1] == '-' || source_[end - 1] == '+');
        offset_ = has_sign ? end - 1 : end;
        take_end("#}", true);
    }

    bool take_word(std::string_view word) {
        skip_whitespace();
        if (!at(word)) return false;
        offset_ += word.size();
        skip_whitespace();
        return true;
    }

    // {% raw %} ... {% endraw %}. Leaves offset_ alone if this is another tag.
    bool scan_raw(size_t tag) {
        const size_t inside = offset_;
        const bool is_raw = take_word("raw") && (at("%}") || at("-%}"));
        if (!is_raw) {
            offset_ = inside;
            return false;
        }
        // trim_blocks does not apply to this tag.
        const bool strips = at("-");
        offset_ += strips ? 3 : 2;
        if (strips) skip_whitespace();
        line_starting_ = source_[offset_ - 1] == '\n';
        const size_t begin = offset_;
        for (size_t end = source_.find("{%", begin); end != std::string::npos;
             end = source_.find("{%", end + 1)) {
            offset_ = end + 2;
            const char sign = take_sign();
            if (!take_word("endraw")) continue;
            const bool text_starts_line = line_starting_;
            if (!take_end("%}", true)) continue;
            const bool rest_starts_line = line_starting_;
            line_starting_ = text_starts_line;
            add_data(begin, end, sign, false);
            line_starting_ = rest_starts_line;
            return true;
        }
        fail(tag, "this raw block has no end");
    }

    void scan_tag(size_t tag, TokenType begin_type, TokenType end_type, std::string_view end) {
        add(begin_type, tag);
        std::string open_brackets;
        while (true) {
            skip_whitespace();
            const size_t begin = offset_;
            if (begin >= source_.size()) fail(tag, "this tag has no end");
            if (open_brackets.empty() && take_end(end, end_type == TokenType::block_end)) {
                add(end_type, begin);
                return;
            }
            const char c = source_[begin];
            if (is_digit(c)) {
                scan_number();
            } else if (is_word(c)) {
                while (offset_ < source_.size() && is_word(source_[offset_])) ++offset_;
                add(TokenType::name, begin).text = source_.substr(begin, offset_ - begin);
            } else if (c == '"' || c == '\'') {
                scan_string();
            } else {
                scan_operator(open_brackets);
            }
        }
    }

    void scan_operator(std::string& open_brackets) {
        static constexpr std::array<std::string_view, 26> kOperators = {
            "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
        for (const std::string_view op : kOperators) {
            if (!at(op)) continue;
            if (op == "(" || op == "[" || op == "{") {
                open_brackets.push_back(op == "(" ? ')' : op == "[" ? ']' : '}');
            } else if (op == ")" || op == "]" || op == "}") {
                if (open_brackets.empty()) fail(offset_, "unexpected '{}'", op);
                if (open_brackets.back() != op[0]) {
                    fail(offset_, "unexpected '{}', expected '{}'", op, open_brackets.back());
                }
                open_brackets.pop_back();
            }
            add(TokenType::op, offset_).text = op;
            offset_ += op.size();
            return;
        }
        const CodePoint point = decode_utf8(source_, offset_);
        fail(offset_, "unexpected character '{}'",
             rest().substr(0, static_cast<size_t>(point.n_bytes)));
    }

    // Digits with single underscores between them, appended without the underscores.
    size_t take_digits(size_t offset, std::string& digits) const {
        while (offset < source_.size()) {
            const bool joined = source_[offset] == '_' && offset + 1 < source_.size() &&
                                is_digit(source_[offset + 1]) && is_digit(source_[offset - 1]);
            if (!is_digit(source_[offset]) && !joined) break;
            if (!joined) digits.push_back(source_[offset]);
            ++offset;
        }
        return offset;
    }

    void scan_number() {
        const size_t begin = offset_;
        const auto next = [this](size_t offset) {
            return offset < source_.size() ? source_[offset] : '\0';
        };
        int base = 10;
        std::string digits;
        size_t end = begin;
        const char marker = static_cast<char>(next(begin + 1) | 0x20);
        if (source_[begin] == '0' && (marker == 'x' || marker == 'o' || marker == 'b')) {
            base = marker == 'x' ? 16 : marker == 'o' ? 8 : 2;
            for (end = begin + 2; end < source_.size() && is_word(source_[end]); ++end) {
                if (source_[end] != '_') digits.push_back(source_[end]);
            }
        } else {
            end = take_digits(begin, digits);
        }
        bool is_real = false;
        // After a dot ("x.0.1") a number is an index, never a fraction.
        if (base == 10 && (begin == 0 || source_[begin - 1] != '.')) {
            if (next(end) == '.' && is_digit(next(end + 1))) {
                digits.push_back('.');
                end = take_digits(end + 1, digits);
                is_real = true;
            }
            const size_t n_sign = next(end + 1) == '-' || next(end + 1) == '+' ? 1 : 0;
            if ((next(end) | 0x20) == 'e' && is_digit(next(end + 1 + n_sign))) {
                digits += source_.substr(end, 1 + n_sign);
                end = take_digits(end + 1 + n_sign, digits);
                is_real = true;
            }
        }
        if (end < source_.size() && is_word(source_[end])) fail(begin, "malformed number");
        offset_ = end;
        Token& token = add(is_real ? TokenType::real : TokenType::integer, begin);
        token.text = source_.substr(begin, end - begin);
        if (is_real) {
            token.real = std::strtod(digits.c_str(), nullptr);
            return;
        }
        const char* last = digits.data() + digits.size();
        const auto result = std::from_chars(digits.data(), last, token.integer, base);
        const bool has_leading_zero =
            base == 10 && digits.size() > 1 && digits[0] == '0' && token.integer != 0;
        if (result.ec == std::errc::result_out_of_range) fail(begin, "integer too large");
        if (result.ec != std::errc() || result.ptr != last || has_leading_zero) {
            fail(begin, "malformed number");
        }
    }

    void scan_string() {
        const size_t begin = offset_;
        const char quote = source_[offset_++];
        std::string value;
        while (true) {
            if (offset_ >= source_.size()) fail(begin, "this string has no end");
            const char c = source_[offset_++];
            if (c == quote) break;
            if (c == '\\') {
                scan_escape(begin, value);
            } else {
                value.push_back(c);
            }
        }
        add(TokenType::string, begin).text = std::move(value);
    }

    // Python's escapes; offset_ is behind the backslash. An unknown escape keeps its backslash.
    void scan_escape(size_t begin, std::string& value) {
        if (offset_ >= source_.size()) fail(begin, "this string has no end");
        const char c = source_[offset_++];
        static constexpr std::string_view kNames = "abfnrtv\\'\"";
        static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
        const size_t simple = kNames.find(c);
        if (simple != std::string_view::npos) {
            value.push_back(kValues[simple]);
        } else if (c == 'x' || c == 'u' || c == 'U') {
            const size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            append_code_point(value, take_escape_digits(n_digits, 16));
        } else if (c >= '0' && c <= '7') {
            --offset_;
            size_t n_digits = 1;
            while (n_digits < 3 && offset_ + n_digits < source_.size() &&
                   source_[offset_ + n_digits] >= '0' && source_[offset_ + n_digits] <= '7') {
                ++n_digits;
            }
            append_code_point(value, take_escape_digits(n_digits, 8));
        } else if (c == 'N') {
            fail(offset_ - 2, "the escape \\N is not supported");
        } else if (c != '\n') {
            value.push_back('\\');
            value.push_back(c);
        }
    }

    uint32_t take_escape_digits(size_t n_digits, int base) {
        uint32_t value = 0;
        const std::string_view digits = rest().substr(0, n_digits);
        const char* last = digits.data() + digits.size();
        const auto result = std::from_chars(digits.data(), last, value, base);
        if (digits.size() < n_digits || result.ptr != last || result.ec != std::errc()) {
            fail(offset_, "malformed escape sequence");
        }
        offset_ += n_digits;
        return value;
    }

    void append_code_point(std::string& value, uint32_t code_point) {
        if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
            fail(offset_, "the escape names U+{:X}, which is no character", code_point);
        }
        append_utf8(value, code_point);
    }

    std::string source_;
    std::string_view source_name_;
    size_t offset_ = 0;
    bool line_starting_ = true;  // what precedes the current text ended with a newline
    size_t position_offset_ = 0;
    Position position_;
    std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view source_name) {
    if (source.size() > kMaxSourceBytes) {
        fail_at(source_name, {}, "the template has {} bytes, more than the limit of {}",
                source.size(), kMaxSourceBytes);
    }
    if (!is_valid_utf8(source)) fail_at(source_name, {}, "the template is not valid UTF-8");
    return Lexer(source, source_name).run();
}

}  // namespace nemo::jinja
