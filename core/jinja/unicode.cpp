// Character classes and letter case of text.h, by Unicode's data in utf8proc. Case mapping is
// one character to one, except the sharp s, whose capital is two letters in Python too.
#include "core/jinja/runtime.h"
#include "core/jinja/text.h"
#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>

namespace nemo::jinja {
namespace {

bool is_whitespace(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

utf8proc_category_t category(char32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_letter(char32_t c) {
    const utf8proc_category_t found = category(c);
    return found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_LO;
}

// Python counts superscripts and circled digits as digits; they are of category No.
bool is_digit(char32_t c) {
    if (category(c) == UTF8PROC_CATEGORY_ND) return true;
    return c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
           (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

char32_t to_lower(char32_t c) {
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

bool is_cased(char32_t c) {
    const utf8proc_category_t found = category(c);
    return found == UTF8PROC_CATEGORY_LU || found == UTF8PROC_CATEGORY_LL ||
           found == UTF8PROC_CATEGORY_LT;
}

void append_upper(std::string& out, char32_t c, bool title) {
    if (c == 0xDF) {
        out += title ? "Ss" : "SS";
        return;
    }
    const auto code = static_cast<utf8proc_int32_t>(c);
    append_utf8(out,
                static_cast<char32_t>(title ? utf8proc_totitle(code) : utf8proc_toupper(code)));
}

}  // namespace

TextPtr change_case(Runtime& runtime, const Text& text, Case wanted) {
    TextBuilder builder(runtime);
    bool in_word = false;
    std::string mapped;
    // Characters of one run are mapped together.
    size_t i = 0;
    for (const Text::Run& run : text.runs) {
        mapped.clear();
        while (i < run.end) {
            const CodePoint point = decode_utf8(text.bytes, i);
            i += static_cast<size_t>(point.n_bytes);
            if (wanted == Case::upper) {
                append_upper(mapped, point.value, false);
            } else if (wanted == Case::lower || in_word) {
                append_utf8(mapped, to_lower(point.value));
            } else {
                append_upper(mapped, point.value, true);
            }
            in_word = wanted == Case::capitalize || is_cased(point.value);
        }
        builder.append(mapped, run.trusted);
    }
    return builder.finish();
}

std::string lower_bytes(std::string_view text) {
    std::string lower;
    lower.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const CodePoint point = decode_utf8(text, i);
        append_utf8(lower, to_lower(point.value));
        i += static_cast<size_t>(point.n_bytes);
    }
    return lower;
}

bool is_all(std::string_view text, CharClass wanted) {
    bool has_cased = false;
    for (size_t i = 0; i < text.size();) {
        const CodePoint point = decode_utf8(text, i);
        const char32_t c = point.value;
        i += static_cast<size_t>(point.n_bytes);
        has_cased = has_cased || is_cased(c);
        bool fits = false;
        switch (wanted) {
            case CharClass::alpha:
                fits = is_letter(c);
                break;
            case CharClass::digit:
                fits = is_digit(c);
                break;
            case CharClass::alnum:
                fits = is_letter(c) || is_digit(c);
                break;
            case CharClass::space:
                fits = is_whitespace(c);
                break;
            case CharClass::upper:
                fits = !is_cased(c) || category(c) == UTF8PROC_CATEGORY_LU;
                break;
            case CharClass::lower:
                fits = !is_cased(c) || category(c) == UTF8PROC_CATEGORY_LL;
                break;
        }
        if (!fits) return false;
    }
    const bool wants_case = wanted == CharClass::upper || wanted == CharClass::lower;
    return wants_case ? has_cased : !text.empty();
}

size_t n_leading_whitespace(std::string_view text) {
    size_t i = 0;
    while (i < text.size()) {
        const CodePoint point = decode_utf8(text, i);
        if (!is_whitespace(point.value)) break;
        i += static_cast<size_t>(point.n_bytes);
    }
    return i;
}

size_t n_trailing_whitespace(std::string_view text) {
    size_t end = text.size();
    while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
        if (!is_whitespace(decode_utf8(text, begin).value)) break;
        end = begin;
    }
    return text.size() - end;
}

bool is_printable(char32_t code_point) {
    switch (category(code_point)) {
        case UTF8PROC_CATEGORY_CN:
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_CS:
        case UTF8PROC_CATEGORY_CO:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
            return false;
        case UTF8PROC_CATEGORY_ZS:
            return code_point == ' ';
        default:
            return true;
    }
}

}  // namespace nemo::jinja
