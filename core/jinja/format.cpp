// String formatting: `text % values` and text.format(...), with Python's mini-languages. Texts that
// are inserted keep their marks.
#include "core/jinja/builtins.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace nemo::jinja {
namespace {

constexpr int64_t kMaxPrecision = 300;

// One conversion, of either language.
struct FormatSpec {
    std::string fill = " ";
    char align = 0;  // '<', '>', '^', '=' or 0 for the type's own
    char sign = '-';
    bool alternate = false;
    bool thousands = false;
    int64_t width = 0;
    int64_t precision = -1;
    char type = 0;
};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int64_t take_number(Runtime& runtime, std::string_view text, size_t& i) {
    int64_t value = 0;
    const auto result = std::from_chars(text.data() + i, text.data() + text.size(), value);
    if (result.ec == std::errc::result_out_of_range)
        runtime.fail("format: the number is too large");
    i = static_cast<size_t>(result.ptr - text.data());
    return value;
}

std::string group_thousands(std::string digits) {
    const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
    for (size_t i = end; i > 3; i -= 3) digits.insert(i - 3, ",");
    return digits;
}

// The number without its sign.
std::string format_magnitude(Runtime& runtime, const FormatSpec& spec, const Value& value) {
    const char type = spec.type;
    std::string digits;
    if (type == 'd' || type == 'i' || type == 'x' || type == 'X' || type == 'o' || type == 'b') {
        const auto magnitude = value.as_integer() < 0
                                   ? 0 - static_cast<uint64_t>(value.as_integer())
                                   : static_cast<uint64_t>(value.as_integer());
        if (type == 'x') digits = fmt::format("{:x}", magnitude);
        if (type == 'X') digits = fmt::format("{:X}", magnitude);
        if (type == 'o') digits = fmt::format("{:o}", magnitude);
        if (type == 'b') digits = fmt::format("{:b}", magnitude);
        if (type == 'd' || type == 'i') digits = fmt::format("{}", magnitude);
        if (spec.alternate && type != 'd' && type != 'i') digits = std::string("0") + type + digits;
    } else {
        const double magnitude = std::abs(value.as_real());
        const auto precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
        if (!std::isfinite(magnitude)) return std::isnan(magnitude) ? "nan" : "inf";
        if (type == 'f' || type == 'F') digits = fmt::format("{:.{}f}", magnitude, precision);
        if (type == 'e') digits = fmt::format("{:.{}e}", magnitude, precision);
        if (type == 'E') digits = fmt::format("{:.{}E}", magnitude, precision);
        if (type == 'g') digits = fmt::format("{:.{}g}", magnitude, precision);
        if (type == 'G') digits = fmt::format("{:.{}G}", magnitude, precision);
        if (type == '%') digits = fmt::format("{:.{}f}%", magnitude * 100, precision);
    }
    if (digits.empty()) runtime.fail("format: the conversion '{}' is not supported", type);
    return spec.thousands ? group_thousands(std::move(digits)) : digits;
}

void append_padded(Runtime& runtime, TextBuilder& out, const FormatSpec& spec,
                   std::string_view prefix, const Text& text, char own_align) {
    const auto n_chars = static_cast<int64_t>(prefix.size() + text.n_chars);
    const int64_t n_missing = std::max<int64_t>(spec.width - n_chars, 0);
    runtime.check_text_size(0, static_cast<size_t>(n_missing));
    const char align = spec.align ? spec.align : own_align;
    const int64_t n_left = align == '<' ? 0 : align == '^' ? n_missing / 2 : n_missing;
    const auto pad = [&](int64_t n) {
        runtime.step(n);
        for (int64_t i = 0; i < n; ++i) out.append(spec.fill, true);
    };
    if (align == '=') out.append(prefix, false);
    pad(n_left);
    if (align != '=') out.append(prefix, false);
    out.append(text);
    pad(n_missing - n_left);
}

void append_number(Runtime& runtime, TextBuilder& out, const FormatSpec& spec, const Value& value) {
    const std::string digits = format_magnitude(runtime, spec, value);
    const bool is_negative = value.is_integer() ? value.as_integer() < 0
                                                : std::signbit(value.as_real()) && digits != "nan";
    const std::string sign = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    append_padded(runtime, out, spec, sign, *make_text(digits, false), '>');
}

void append_string(Runtime& runtime, TextBuilder& out, const FormatSpec& spec, TextPtr text,
                   char own_align) {
    if (spec.precision >= 0 && text->n_chars > static_cast<size_t>(spec.precision)) {
        text = substring(runtime, text, 0, byte_offset(*text, static_cast<size_t>(spec.precision)));
    }
    append_padded(runtime, out, spec, "", *text, own_align);
}

TextPtr repr(Runtime& runtime, const Value& value) {
    TextBuilder builder(runtime);
    append_repr(runtime, builder, value);
    return builder.finish();
}

// A number for an integer conversion: reals are cut, as % does.
Value whole_number(Runtime& runtime, const Value& value) {
    if (value.is_integer()) return value;
    if (!value.is(Kind::real) || !(std::abs(value.as_real()) < 0x1p63)) {
        runtime.fail("format: an integer is needed, not {}", type_name(value));
    }
    return Value::integer(static_cast<int64_t>(value.as_real()));
}

// The values of `text % values` in the order they are asked for.
class PercentArguments {
public:
    PercentArguments(Runtime& runtime, const Value& values) : runtime_(runtime), values_(values) {
        is_tuple_ = values.is(Kind::list) && values.as_list().type == ListType::tuple;
    }

    const Value& next() {
        const size_t n_values = is_tuple_ ? values_.as_list().items.size() : 1;
        if (n_used_ >= n_values) runtime_.fail("format: there are more conversions than values");
        const size_t index = n_used_++;
        return is_tuple_ ? values_.as_list().items[index] : values_;
    }

    const Value& named(const std::string& name) {
        const Value* member =
            values_.is(Kind::dict) ? values_.as_dict().find(text_key_code(name)) : nullptr;
        if (!member) runtime_.fail("format: there is no value '{}'", name);
        n_used_ = 1;
        return *member;
    }

    void check_all_used() const {
        const size_t n_values = is_tuple_                ? values_.as_list().items.size()
                                : values_.is(Kind::dict) ? 0
                                                         : 1;
        if (n_used_ < n_values) runtime_.fail("format: not all values are used");
    }

private:
    Runtime& runtime_;
    const Value& values_;
    bool is_tuple_ = false;
    size_t n_used_ = 0;
};

// What stands between '%' and the conversion's letter; i moves behind it.
FormatSpec parse_percent_spec(Runtime& runtime, std::string_view text, size_t& i,
                              PercentArguments& values) {
    FormatSpec spec;
    for (; i < text.size() && std::string_view("-+ 0#").find(text[i]) != std::string_view::npos;
         ++i) {
        if (text[i] == '-') spec.align = '<';
        if (text[i] == '+') spec.sign = '+';
        if (text[i] == ' ' && spec.sign != '+') spec.sign = ' ';
        if (text[i] == '#') spec.alternate = true;
        if (text[i] == '0') spec.fill = "0";
    }
    const auto take_size = [&]() -> int64_t {
        if (i < text.size() && text[i] == '*') {
            ++i;
            return whole_number(runtime, values.next()).as_integer();
        }
        return i < text.size() && is_digit(text[i]) ? take_number(runtime, text, i) : 0;
    };
    spec.width = take_size();
    if (spec.width < 0) runtime.fail("format: a negative width is not supported");
    if (i < text.size() && text[i] == '.') {
        ++i;
        spec.precision = std::max<int64_t>(take_size(), 0);
    }
    if (i >= text.size()) runtime.fail("format: the text ends within a conversion");
    spec.type = text[i++];
    return spec;
}

void append_percent(Runtime& runtime, TextBuilder& out, FormatSpec spec, const Value& value) {
    const bool is_text = spec.type == 's' || spec.type == 'r' || spec.type == 'c';
    // Zeros go between sign and digits, and only before numbers that are padded on the left.
    if (spec.fill == "0" && (is_text || spec.align == '<')) spec.fill = " ";
    if (spec.fill == "0") spec.align = '=';
    if (is_text) {
        TextPtr text = spec.type == 'r' ? repr(runtime, value) : to_text(runtime, value);
        if (spec.type == 'c' && (!value.is(Kind::text) || text->n_chars != 1)) {
            runtime.fail("format: %c needs one character");
        }
        append_string(runtime, out, spec, std::move(text), '>');
        return;
    }
    if (!value.is_number()) runtime.fail("format: a number is needed, not {}", type_name(value));
    if (spec.precision > kMaxPrecision)
        runtime.fail("format: the precision is above {}", kMaxPrecision);
    const bool is_real = std::string_view("fFeEgG").find(spec.type) != std::string_view::npos;
    if (spec.type == '%') runtime.fail("format: the conversion '%' takes no value");
    append_number(runtime, out, spec,
                  is_real ? Value::real(value.as_real()) : whole_number(runtime, value));
}

}  // namespace

TextPtr format_percent(Runtime& runtime, const Text& format, const Value& arguments) {
    PercentArguments values(runtime, arguments);
    TextBuilder out(runtime);
    const std::string& text = format.bytes;
    size_t plain = 0;
    for (size_t i = text.find('%'); i != std::string::npos; i = text.find('%', plain)) {
        runtime.step();
        out.append(format, plain, i);
        size_t at = i + 1;
        const Value* named = nullptr;
        if (at < text.size() && text[at] == '(') {
            const size_t close = text.find(')', at);
            if (close == std::string::npos) runtime.fail("format: a '(' has no ')'");
            named = &values.named(text.substr(at + 1, close - at - 1));
            at = close + 1;
        }
        const FormatSpec spec = parse_percent_spec(runtime, text, at, values);
        if (spec.type == '%') {
            out.append("%", format.trusted_at(i));
        } else {
            append_percent(runtime, out, spec, named ? *named : values.next());
        }
        plain = at;
    }
    out.append(format, plain, text.size());
    values.check_all_used();
    return out.finish();
}

namespace {

// "[[fill]align][sign][#][0][width][,][.precision][type]"
FormatSpec parse_brace_spec(Runtime& runtime, std::string_view text) {
    constexpr std::string_view kAlignments = "<>^=";
    FormatSpec spec;
    size_t i = 0;
    const auto is_align = [&](size_t at) {
        return at < text.size() && kAlignments.find(text[at]) != std::string_view::npos;
    };
    size_t n_fill = text.empty() ? 0 : 1;
    while (n_fill < text.size() && (text[n_fill] & 0xC0) == 0x80) ++n_fill;
    if (is_align(n_fill)) {
        spec.fill = text.substr(0, n_fill);
        spec.align = text[n_fill];
        i = n_fill + 1;
    } else if (is_align(0)) {
        spec.align = text[i++];
    }
    if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' '))
        spec.sign = text[i++];
    if (i < text.size() && text[i] == '#') {
        spec.alternate = true;
        ++i;
    }
    if (i < text.size() && text[i] == '0') {
        ++i;
        if (!spec.align) {
            spec.fill = "0";
            spec.align = '=';
        }
    }
    if (i < text.size() && is_digit(text[i])) spec.width = take_number(runtime, text, i);
    if (i < text.size() && text[i] == ',') {
        spec.thousands = true;
        ++i;
    }
    if (i + 1 < text.size() && text[i] == '.' && is_digit(text[i + 1])) {
        spec.precision = take_number(runtime, text, ++i);
    }
    if (i < text.size()) spec.type = text[i++];
    if (i < text.size()) runtime.fail("format: the specification '{}' is not supported", text);
    return spec;
}

void append_braces_value(Runtime& runtime, TextBuilder& out, FormatSpec spec, const Value& value) {
    const bool is_plain = spec.type == 0 || spec.type == 's';
    if (!value.is_number() || (value.is(Kind::boolean) && spec.type == 0)) {
        if (!is_plain)
            runtime.fail("format: a {} has no conversion '{}'", type_name(value), spec.type);
        return append_string(runtime, out, spec, to_text(runtime, value), '<');
    }
    if (spec.precision > kMaxPrecision)
        runtime.fail("format: the precision is above {}", kMaxPrecision);
    const bool is_whole =
        spec.type != 0 && std::string_view("dxXob").find(spec.type) != std::string_view::npos;
    if (spec.type == 's' || (is_whole && !value.is_integer())) {
        runtime.fail("format: a {} has no conversion '{}'", type_name(value), spec.type);
    }
    if (spec.type == 0 && value.is(Kind::real) && spec.precision < 0) {
        const double magnitude = std::abs(value.as_real());
        const bool is_negative = std::signbit(value.as_real());
        const std::string sign = is_negative        ? "-"
                                 : spec.sign == '-' ? ""
                                                    : std::string(1, spec.sign);
        std::string digits = to_text(runtime, Value::real(magnitude))->bytes;
        if (spec.thousands) digits = group_thousands(std::move(digits));
        return append_padded(runtime, out, spec, sign, *make_text(std::move(digits), false), '>');
    }
    if (spec.type == 0) spec.type = value.is(Kind::real) ? 'g' : 'd';
    append_number(runtime, out, spec, value);
}

// "name", "0", "0.attribute", "name[key]"; an empty name takes the next argument.
Value find_field(Runtime& runtime, std::string_view field, const Arguments& arguments,
                 size_t& n_automatic) {
    const size_t name_end = std::min(field.find_first_of(".["), field.size());
    const std::string name(field.substr(0, name_end));
    Value value;
    if (name.empty() || is_digit(name[0])) {
        size_t i = 0;
        const size_t index =
            name.empty() ? n_automatic++ : static_cast<size_t>(take_number(runtime, name, i));
        if (i < name.size() || index >= arguments.positional.size()) {
            runtime.fail("format: there is no argument {}", index);
        }
        value = arguments.positional[index];
    } else {
        const auto is_wanted = [&](const auto& argument) { return argument.first == name; };
        const auto found = std::find_if(arguments.named.begin(), arguments.named.end(), is_wanted);
        if (found == arguments.named.end()) runtime.fail("format: there is no argument '{}'", name);
        value = found->second;
    }
    for (size_t i = name_end; i < field.size();) {
        const bool is_item = field[i] == '[';
        const size_t end =
            is_item ? field.find(']', i) : std::min(field.find_first_of(".[", i + 1), field.size());
        if (end == std::string_view::npos) runtime.fail("format: a '[' has no ']'");
        const std::string key(field.substr(i + 1, end - i - 1));
        size_t n_read = 0;
        const bool is_index = is_item && !key.empty() && is_digit(key[0]);
        value = is_index
                    ? get_item(runtime, value, Value::integer(take_number(runtime, key, n_read)))
                : is_item ? get_item(runtime, value, Value::text(make_text(key, true)))
                          : get_attribute(runtime, value, key);
        i = is_item ? end + 1 : end;
    }
    return value;
}

}  // namespace

Value format_braces(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Text& format = *self.as_text();
    const std::string& text = format.bytes;
    TextBuilder out(runtime);
    size_t n_automatic = 0;
    size_t plain = 0;
    for (size_t i = text.find_first_of("{}"); i != std::string::npos;
         i = text.find_first_of("{}", plain)) {
        runtime.step();
        out.append(format, plain, i);
        if (i + 1 < text.size() && text[i + 1] == text[i]) {
            out.append(format, i, i + 1);
            plain = i + 2;
            continue;
        }
        const size_t close = text[i] == '{' ? text.find_first_of("{}", i + 1) : std::string::npos;
        if (close == std::string::npos || text[close] != '}')
            runtime.fail("format: braces do not match");
        std::string_view field = std::string_view(text).substr(i + 1, close - i - 1);
        FormatSpec spec;
        if (const size_t colon = field.find(':'); colon != std::string_view::npos) {
            spec = parse_brace_spec(runtime, field.substr(colon + 1));
            field = field.substr(0, colon);
        }
        std::string_view conversion;
        if (const size_t mark = field.find('!'); mark != std::string_view::npos) {
            conversion = field.substr(mark + 1);
            field = field.substr(0, mark);
        }
        Value value = find_field(runtime, field, arguments, n_automatic);
        if (conversion == "s") value = Value::text(to_text(runtime, value));
        if (conversion == "r") value = Value::text(repr(runtime, value));
        if (!conversion.empty() && conversion != "s" && conversion != "r") {
            runtime.fail("format: there is no conversion '!{}'", conversion);
        }
        append_braces_value(runtime, out, spec, value);
        plain = close + 1;
    }
    out.append(format, plain, text.size());
    return Value::text(out.finish());
}

}  // namespace nemo::jinja
