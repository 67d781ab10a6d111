// Filters on single values: `value | NAME(...)`. Those on sequences are in
// sequence_filters.cpp.
#include "core/jinja/builtins.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

namespace nemo::jinja {
namespace {

template <Case wanted>
Value with_case(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "this filter", arguments, {});
    return Value::text(change_case(runtime, *to_text(runtime, value), wanted));
}

// Unlike the method title(), only blanks, '-' and opening brackets start a word.
Value title(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "title", arguments, {});
    const TextPtr text = to_text(runtime, value);
    TextBuilder builder(runtime);
    const std::string& bytes = text->bytes;
    for (size_t begin = 0; begin < bytes.size();) {
        runtime.step();
        size_t end = begin;
        const auto is_separator = [&](size_t i) {
            return std::string_view("-({[<").find(bytes[i]) != std::string_view::npos ||
                   n_leading_whitespace(std::string_view(bytes).substr(i, 4)) > 0;
        };
        while (end < bytes.size() && !is_separator(end)) ++end;
        builder.append(
            *change_case(runtime, *substring(runtime, text, begin, end), Case::capitalize));
        begin = end;
        while (end < bytes.size() && is_separator(end)) {
            const size_t n_blanks = n_leading_whitespace(std::string_view(bytes).substr(end));
            end += std::max<size_t>(n_blanks, 1);
        }
        builder.append(*text, begin, end);
        begin = end;
    }
    return Value::text(builder.finish());
}

Value trim(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "trim", arguments, {"chars"});
    return Value::text(
        strip_text(runtime, to_text(runtime, value), parameters.text(0), Side::both));
}

Value replace(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "replace", arguments, {"old", "new", "count"}, 2);
    const TextPtr old_text = to_text(runtime, parameters.get(0));
    const TextPtr new_text = to_text(runtime, parameters.get(1));
    return Value::text(replace_text(runtime, to_text(runtime, value), *old_text, *new_text,
                                    parameters.integer(2, -1)));
}

Value indent(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "indent", arguments, {"width", "first", "blank"});
    TextPtr margin;
    if (parameters.find(0) && parameters.get(0).is(Kind::text)) {
        margin = parameters.get(0).as_text();
    } else {
        const int64_t width = std::max<int64_t>(parameters.integer(0, 4), 0);
        runtime.check_text_size(0, static_cast<size_t>(width));
        margin = make_text(std::string(static_cast<size_t>(width), ' '), true);
    }
    const bool with_first = parameters.is_true(1, false);
    const bool with_blank = parameters.is_true(2, false);
    // Jinja adds a newline before it splits, so that a newline at the end survives.
    TextBuilder source(runtime);
    source.append(*to_text(runtime, value));
    source.append("\n", true);
    const std::vector<TextPtr> lines = split_lines(runtime, source.finish(), false);
    TextBuilder builder(runtime);
    for (size_t i = 0; i < lines.size(); ++i) {
        if (i > 0) builder.append("\n", true);
        const bool is_indented = i == 0 ? with_first : with_blank || !lines[i]->bytes.empty();
        if (is_indented) builder.append(*margin);
        builder.append(*lines[i]);
    }
    return Value::text(builder.finish());
}

Value escape(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "escape", arguments, {});
    const TextPtr text = to_text(runtime, value);
    TextBuilder builder(runtime);
    size_t plain = 0;
    for (size_t i = 0; i < text->bytes.size(); ++i) {
        std::string_view escaped;
        switch (text->bytes[i]) {
            case '&':
                escaped = "&amp;";
                break;
            case '<':
                escaped = "&lt;";
                break;
            case '>':
                escaped = "&gt;";
                break;
            case '"':
                escaped = "&#34;";
                break;
            case '\'':
                escaped = "&#39;";
                break;
            default:
                continue;
        }
        builder.append(*text, plain, i);
        builder.append(escaped, text->trusted_at(i));
        plain = i + 1;
    }
    builder.append(*text, plain, text->bytes.size());
    return Value::text(builder.finish());
}

Value string(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "string", arguments, {});
    return Value::text(to_text(runtime, value));
}

Value with_default(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "default", arguments, {"default_value", "boolean"});
    const bool is_missing =
        value.is_undefined() || (parameters.is_true(1, false) && !is_true(value));
    if (!is_missing) return value;
    return parameters.find(0) ? parameters.get(0) : Value::text(make_text("", true));
}

// The digits of a number as Python reads it: blanks around and single underscores within are
// dropped.
std::string number_text(std::string_view text) {
    text.remove_prefix(n_leading_whitespace(text));
    text.remove_suffix(n_trailing_whitespace(text));
    std::string digits;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool joins = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_';
        if (!joins) digits.push_back(text[i]);
    }
    return digits;
}

std::optional<double> parse_real(std::string_view text) {
    std::string digits = number_text(text);
    if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
    double value = 0;
    const char* end = digits.data() + digits.size();
    const auto result = std::from_chars(digits.data(), end, value);
    const bool is_plus_minus = digits.size() > 1 && digits[0] == '-' && text.find('+') == 0;
    if (result.ptr != end || digits.empty() || is_plus_minus) return std::nullopt;
    // Too large or too small a number: strtod gives infinity or zero, as Python does.
    return result.ec == std::errc() ? value : std::strtod(digits.c_str(), nullptr);
}

// Fails where the value is a number that does not fit 64 bits.
std::optional<int64_t> parse_integer(Runtime& runtime, std::string_view text, int base) {
    std::string digits = number_text(text);
    if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.erase(0, 1);
    const size_t n_sign = !digits.empty() && digits[0] == '-' ? 1 : 0;
    const std::string_view marker = base == 16 ? "xX" : base == 8 ? "oO" : base == 2 ? "bB" : "";
    if (digits.size() > n_sign + 2 && digits[n_sign] == '0' &&
        marker.find(digits[n_sign + 1]) != std::string_view::npos) {
        digits.erase(n_sign, 2);
    }
    int64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto result = std::from_chars(digits.data(), end, value, base);
    if (result.ptr != end || digits.empty()) return std::nullopt;
    if (result.ec == std::errc::result_out_of_range)
        runtime.fail("int: the number does not fit 64 bits");
    return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> truncate(Runtime& runtime, double value) {
    if (std::isnan(value) || std::isinf(value)) return std::nullopt;
    if (std::abs(value) >= 0x1p63) runtime.fail("int: the number does not fit 64 bits");
    return static_cast<int64_t>(value);
}

Value to_integer(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "int", arguments, {"default", "base"});
    const int64_t base = parameters.integer(1, 10);
    if (base < 2 || base > 36) runtime.fail("int: the base {} is not in 2..36", base);
    if (value.is_undefined()) runtime.fail("int: the value is undefined");
    std::optional<int64_t> number;
    if (value.is_integer()) {
        number = value.as_integer();
    } else if (value.is(Kind::real)) {
        number = truncate(runtime, value.as_real());
    } else if (value.is(Kind::text)) {
        number = parse_integer(runtime, value.as_text()->bytes, static_cast<int>(base));
        if (!number) {
            const std::optional<double> real = parse_real(value.as_text()->bytes);
            if (real) number = truncate(runtime, *real);
        }
    }
    if (number) return Value::integer(*number);
    return parameters.find(0) ? parameters.get(0) : Value::integer(0);
}

Value to_real(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "float", arguments, {"default"});
    if (value.is_undefined()) runtime.fail("float: the value is undefined");
    if (value.is_number()) return Value::real(value.as_real());
    if (value.is(Kind::text)) {
        if (const std::optional<double> number = parse_real(value.as_text()->bytes)) {
            return Value::real(*number);
        }
    }
    return parameters.find(0) ? parameters.get(0) : Value::real(0.0);
}

Value absolute(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "abs", arguments, {});
    if (value.is(Kind::real)) return Value::real(std::abs(value.as_real()));
    if (!value.is_integer()) runtime.fail("abs: the value is a {}, not a number", type_name(value));
    if (value.as_integer() == std::numeric_limits<int64_t>::min()) runtime.fail("integer overflow");
    return Value::integer(std::abs(value.as_integer()));
}

// Half to even on the exact decimal value, as Python rounds: printf does that.
double round_decimal(double value, int64_t n_digits) {
    constexpr int64_t kMaxDigits = 330;
    if (!std::isfinite(value) || n_digits > kMaxDigits) return value;
    if (n_digits >= 0) {
        return std::strtod(fmt::format("{:.{}f}", value, n_digits).c_str(), nullptr);
    }
    if (n_digits < -kMaxDigits) return std::copysign(0.0, value);
    const double unit = std::pow(10.0, static_cast<double>(-n_digits));
    return std::nearbyint(value / unit) * unit;
}

Value round(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "round", arguments, {"precision", "method"});
    const int64_t precision = parameters.integer(0, 0);
    const Text* given = parameters.text(1);
    const std::string method = given ? given->bytes : "common";
    if (!value.is_number())
        runtime.fail("round: the value is a {}, not a number", type_name(value));
    if (method == "common") {
        if (value.is_integer() && precision >= 0) return Value::integer(value.as_integer());
        const double rounded = round_decimal(value.as_real(), precision);
        if (!value.is_integer()) return Value::real(rounded);
        const std::optional<int64_t> whole = truncate(runtime, rounded);
        return Value::integer(whole.value_or(0));
    }
    if (method != "ceil" && method != "floor")
        runtime.fail("round: there is no method '{}'", method);
    const double scale = std::pow(10.0, static_cast<double>(precision));
    const double scaled = value.as_real() * scale;
    return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value format(Runtime& runtime, const Value& value, const Arguments& arguments) {
    if (!arguments.named.empty() && !arguments.positional.empty()) {
        runtime.fail("format: arguments with and without names cannot be mixed");
    }
    Value operand;
    if (arguments.named.empty()) {
        operand = runtime.new_list(arguments.positional, ListType::tuple);
    } else {
        Arguments members;
        members.named = arguments.named;
        operand = make_dict(runtime, Value(), members);
    }
    return Value::text(format_percent(runtime, *to_text(runtime, value), operand));
}

Value parse_json_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "from_json", arguments, {});
    if (!value.is(Kind::text))
        runtime.fail("from_json: the value is a {}, not a string", type_name(value));
    runtime.step(static_cast<int64_t>(value.as_text()->bytes.size() / 8));
    Json json;
    try {
        json = parse_json(value.as_text()->bytes, "from_json");
    } catch (const Error& error) {
        runtime.fail("{}", error.what());
    }
    return from_json(runtime, json, false);
}

constexpr std::array kFilters = {
    BuiltinEntry{"upper", with_case<Case::upper>},
    BuiltinEntry{"lower", with_case<Case::lower>},
    BuiltinEntry{"capitalize", with_case<Case::capitalize>},
    BuiltinEntry{"title", title},
    BuiltinEntry{"trim", trim},
    BuiltinEntry{"replace", replace},
    BuiltinEntry{"indent", indent},
    BuiltinEntry{"escape", escape},
    BuiltinEntry{"e", escape},
    // There is no escaping that could be switched off.
    BuiltinEntry{"safe", string},
    BuiltinEntry{"string", string},
    BuiltinEntry{"default", with_default},
    BuiltinEntry{"d", with_default},
    BuiltinEntry{"int", to_integer},
    BuiltinEntry{"float", to_real},
    BuiltinEntry{"abs", absolute},
    BuiltinEntry{"round", round},
    BuiltinEntry{"format", format},
    BuiltinEntry{"tojson", to_json_filter},
    BuiltinEntry{"from_json", parse_json_filter},
};

}  // namespace

Builtin find_filter(std::string_view name) {
    const Builtin found = find_entry(kFilters, name);
    return found ? found : find_entry(sequence_filters(), name);
}

}  // namespace nemo::jinja
