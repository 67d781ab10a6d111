// Methods of strings.
#include "core/jinja/builtins.h"

#include <array>

namespace nemo::jinja {
namespace {

const TextPtr& text_of(const Value& self) {
    return self.as_text();
}

template <bool from_right>
Value split(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "split", arguments, {"sep", "maxsplit"});
    std::vector<Value> parts;
    for (TextPtr& part : split_text(runtime, text_of(self), parameters.text(0),
                                    parameters.integer(1, -1), from_right)) {
        parts.push_back(Value::text(std::move(part)));
    }
    return runtime.new_list(std::move(parts));
}

template <bool from_right>
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "partition", arguments, {"sep"}, 1);
    const Text* separator = parameters.text(0);
    if (!separator || separator->bytes.empty()) runtime.fail("partition() needs a separator");
    const TextPtr& text = text_of(self);
    const size_t found = find_text(runtime, text->bytes, separator->bytes, 0, from_right);
    const size_t n_bytes = text->bytes.size();
    const bool is_found = found != std::string::npos;
    const size_t left_end = is_found ? found : from_right ? 0 : n_bytes;
    const size_t right_begin = is_found ? found + separator->bytes.size() : left_end;
    const size_t middle_end = is_found ? right_begin : left_end;
    return runtime.new_list({Value::text(substring(runtime, text, 0, left_end)),
                             Value::text(substring(runtime, text, left_end, middle_end)),
                             Value::text(substring(runtime, text, right_begin, n_bytes))},
                            ListType::tuple);
}

Value splitlines(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "splitlines", arguments, {"keepends"});
    std::vector<Value> lines;
    for (TextPtr& line : split_lines(runtime, text_of(self), parameters.is_true(0, false))) {
        lines.push_back(Value::text(std::move(line)));
    }
    return runtime.new_list(std::move(lines));
}

template <Side side>
Value strip(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "strip", arguments, {"chars"});
    return Value::text(strip_text(runtime, text_of(self), parameters.text(0), side));
}

bool has_affix(std::string_view text, std::string_view affix, bool at_start) {
    if (affix.size() > text.size()) return false;
    return text.substr(at_start ? 0 : text.size() - affix.size(), affix.size()) == affix;
}

template <bool at_start>
Value has_affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, at_start ? "startswith" : "endswith", arguments,
                                {"affix", "start", "end"}, 1);
    if (parameters.find(1)) runtime.fail("a start position is not supported here");
    const Value& wanted = parameters.get(0);
    if (!wanted.is(Kind::list)) {
        const Text* affix = parameters.text(0);
        if (!affix) runtime.fail("the affix must be a string, not None");
        return Value::boolean(has_affix(text_of(self)->bytes, affix->bytes, at_start));
    }
    for (const Value& affix : wanted.as_list().items) {
        if (!affix.is(Kind::text))
            runtime.fail("the affix must be a string, not {}", type_name(affix));
        if (has_affix(text_of(self)->bytes, affix.as_text()->bytes, at_start))
            return Value::boolean(true);
    }
    return Value::boolean(false);
}

template <bool at_start>
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, at_start ? "removeprefix" : "removesuffix", arguments,
                                {"affix"}, 1);
    const Text* affix = parameters.text(0);
    const TextPtr& text = text_of(self);
    if (!affix || !has_affix(text->bytes, affix->bytes, at_start)) return self;
    const size_t n_kept = text->bytes.size() - affix->bytes.size();
    return Value::text(at_start ? substring(runtime, text, affix->bytes.size(), text->bytes.size())
                                : substring(runtime, text, 0, n_kept));
}

Value replace(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "replace", arguments, {"old", "new", "count"}, 2);
    const Text* old_text = parameters.text(0);
    const Text* new_text = parameters.text(1);
    if (!old_text || !new_text) runtime.fail("replace() needs two strings");
    return Value::text(
        replace_text(runtime, text_of(self), *old_text, *new_text, parameters.integer(2, -1)));
}

template <Case wanted>
Value with_case(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "this method", arguments, {});
    return Value::text(change_case(runtime, *text_of(self), wanted));
}

template <CharClass wanted>
Value is_of_class(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "this method", arguments, {});
    return Value::boolean(is_all(text_of(self)->bytes, wanted));
}

// Gives a count of characters, as Python's strings are indexed.
template <bool from_right, bool must_exist>
Value find(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "find", arguments, {"sub"}, 1);
    const Text* wanted = parameters.text(0);
    if (!wanted) runtime.fail("find() needs a string");
    const Text& text = *text_of(self);
    const size_t found = find_text(runtime, text.bytes, wanted->bytes, 0, from_right);
    if (found == std::string::npos) {
        if (must_exist) runtime.fail("the substring is not there");
        return Value::integer(-1);
    }
    return Value::count(make_text(text.bytes.substr(0, found), false)->n_chars);
}

Value count(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "count", arguments, {"sub"}, 1);
    const Text* wanted = parameters.text(0);
    if (!wanted) runtime.fail("count() needs a string");
    const Text& text = *text_of(self);
    if (wanted->bytes.empty()) return Value::count(text.n_chars + 1);
    size_t n_found = 0;
    size_t found = find_text(runtime, text.bytes, wanted->bytes, 0);
    for (; found != std::string::npos;
         found = text.bytes.find(wanted->bytes, found + wanted->bytes.size())) {
        ++n_found;
    }
    return Value::count(n_found);
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "join", arguments, {"iterable"}, 1);
    TextBuilder builder(runtime);
    bool is_first = true;
    for (const Value& item : iterate(runtime, parameters.get(0))) {
        if (!item.is(Kind::text)) runtime.fail("join() needs strings, not {}", type_name(item));
        if (!is_first) builder.append(*text_of(self));
        builder.append(*item.as_text());
        is_first = false;
    }
    return Value::text(builder.finish());
}

Value zfill(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "zfill", arguments, {"width"}, 1);
    const TextPtr& text = text_of(self);
    const int64_t n_zeros = parameters.integer(0, 0) - static_cast<int64_t>(text->n_chars);
    if (n_zeros <= 0) return self;
    runtime.check_text_size(0, static_cast<size_t>(n_zeros));
    const bool has_sign = !text->bytes.empty() && (text->bytes[0] == '-' || text->bytes[0] == '+');
    TextBuilder builder(runtime);
    builder.append(*text, 0, has_sign ? 1 : 0);
    builder.append(std::string(static_cast<size_t>(n_zeros), '0'), false);
    builder.append(*text, has_sign ? 1 : 0, text->bytes.size());
    return Value::text(builder.finish());
}

constexpr std::array kTextMethods = {
    BuiltinEntry{"split", split<false>},
    BuiltinEntry{"rsplit", split<true>},
    BuiltinEntry{"splitlines", splitlines},
    BuiltinEntry{"partition", partition<false>},
    BuiltinEntry{"rpartition", partition<true>},
    BuiltinEntry{"strip", strip<Side::both>},
    BuiltinEntry{"lstrip", strip<Side::left>},
    BuiltinEntry{"rstrip", strip<Side::right>},
    BuiltinEntry{"startswith", has_affix_method<true>},
    BuiltinEntry{"endswith", has_affix_method<false>},
    BuiltinEntry{"removeprefix", remove_affix<true>},
    BuiltinEntry{"removesuffix", remove_affix<false>},
    BuiltinEntry{"replace", replace},
    BuiltinEntry{"upper", with_case<Case::upper>},
    BuiltinEntry{"lower", with_case<Case::lower>},
    BuiltinEntry{"title", with_case<Case::title>},
    BuiltinEntry{"capitalize", with_case<Case::capitalize>},
    BuiltinEntry{"isalpha", is_of_class<CharClass::alpha>},
    BuiltinEntry{"isdigit", is_of_class<CharClass::digit>},
    BuiltinEntry{"isalnum", is_of_class<CharClass::alnum>},
    BuiltinEntry{"isspace", is_of_class<CharClass::space>},
    BuiltinEntry{"isupper", is_of_class<CharClass::upper>},
    BuiltinEntry{"islower", is_of_class<CharClass::lower>},
    BuiltinEntry{"find", find<false, false>},
    BuiltinEntry{"rfind", find<true, false>},
    BuiltinEntry{"index", find<false, true>},
    BuiltinEntry{"count", count},
    BuiltinEntry{"join", join},
    BuiltinEntry{"zfill", zfill},
    BuiltinEntry{"format", format_braces},
};

}  // namespace

std::span<const BuiltinEntry> text_methods() {
    return kTextMethods;
}

}  // namespace nemo::jinja
