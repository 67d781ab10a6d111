// Filters on sequences. Where Jinja gives a generator, so do we (it is true even if empty, and has
// no length).
#include "core/jinja/builtins.h"
#include "core/jinja/operators.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

namespace nemo::jinja {
namespace {

using Key = std::function<Value(const Value&)>;

// "a.b.0" as a way into nested values; without a path, the value itself.
Key attribute_key(Runtime& runtime, const Value* attribute, bool ignore_case,
                  const Value* fallback = nullptr) {
    std::vector<Value> path;
    if (attribute && attribute->is_integer()) {
        path.push_back(*attribute);
    } else if (attribute && attribute->is(Kind::text)) {
        const TextPtr dot = make_text(".", true);
        for (TextPtr& part : split_text(runtime, attribute->as_text(), dot.get(), -1, false)) {
            int64_t index = 0;
            const char* end = part->bytes.data() + part->bytes.size();
            const auto result = std::from_chars(part->bytes.data(), end, index);
            const bool is_index = result.ec == std::errc() && result.ptr == end && index >= 0;
            path.push_back(is_index ? Value::integer(index) : Value::text(std::move(part)));
        }
    } else if (attribute && !attribute->is(Kind::none)) {
        runtime.fail("an attribute must be a string or an integer, not {}", type_name(*attribute));
    }
    return [&runtime, path, ignore_case, fallback](const Value& item) {
        Value value = item;
        for (const Value& step : path) {
            if (value.is_undefined()) runtime.fail("the attribute of a value that is undefined");
            value = get_item(runtime, value, step);
            if (fallback && value.is_undefined()) value = *fallback;
        }
        if (ignore_case && value.is(Kind::text)) {
            runtime.check_text_size(0, value.as_text()->bytes.size());
            return Value::text(make_text(lower_bytes(value.as_text()->bytes), false));
        }
        return value;
    };
}

// The arguments behind the first n positional ones, for the filter or test that was named.
Arguments without_first(const Arguments& arguments, size_t n) {
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin(),
                          rest.positional.begin() + static_cast<std::ptrdiff_t>(n));
    return rest;
}

const std::string& name_argument(Runtime& runtime, const Arguments& arguments, size_t index,
                                 const char* what) {
    const Value& name = arguments.positional[index];
    if (!name.is(Kind::text))
        runtime.fail("the name of a {} must be a string, not {}", what, type_name(name));
    return name.as_text()->bytes;
}

// select, reject, selectattr, rejectattr: keeps what passes (or fails) a test, by default for
// truth.
template <bool by_attribute, bool keeps>
Value select(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Key key = [](const Value& item) { return item; };
    size_t n_used = 0;
    if (by_attribute) {
        if (arguments.positional.empty()) runtime.fail("the name of an attribute is missing");
        key = attribute_key(runtime, &arguments.positional[0], false);
        n_used = 1;
    }
    Builtin test = nullptr;
    Arguments test_arguments;
    if (arguments.positional.size() > n_used) {
        const std::string& name = name_argument(runtime, arguments, n_used, "test");
        test = find_test(name);
        if (!test) runtime.fail("there is no test '{}'", name);
        test_arguments = without_first(arguments, n_used + 1);
    }
    std::vector<Value> chosen;
    for (const Value& item : iterate(runtime, value)) {
        runtime.step();
        const Value examined = key(item);
        if (is_true(test ? test(runtime, examined, test_arguments) : examined) == keeps)
            chosen.push_back(item);
    }
    return runtime.new_list(std::move(chosen), ListType::generator);
}

// map('filter', ...) or map(attribute='name', default=...).
Value map(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Key transform;
    if (arguments.positional.empty()) {
        const Parameters parameters(runtime, "map", arguments, {"attribute", "default"}, 1);
        transform = attribute_key(runtime, parameters.find(0), false, parameters.find(1));
    } else {
        const std::string& name = name_argument(runtime, arguments, 0, "filter");
        const Builtin filter = find_filter(name);
        if (!filter) runtime.fail("there is no filter '{}'", name);
        transform = [&runtime, filter, rest = without_first(arguments, 1)](const Value& item) {
            const Runtime::Nesting nesting(runtime);
            return filter(runtime, item, rest);
        };
    }
    std::vector<Value> mapped;
    for (const Value& item : iterate(runtime, value)) {
        runtime.step();
        mapped.push_back(transform(item));
    }
    return runtime.new_list(std::move(mapped), ListType::generator);
}

// The items in the order of their keys; equal ones keep theirs.
std::vector<Value> sorted(Runtime& runtime, std::vector<Value> items, const std::vector<Key>& keys,
                          bool reverse) {
    std::vector<std::pair<Value, Value>> keyed;
    for (Value& item : items) {
        std::vector<Value> parts;
        for (const Key& key : keys) parts.push_back(key(item));
        const bool is_single = parts.size() == 1;
        Value sort_key = is_single ? parts[0] : runtime.new_list(std::move(parts), ListType::tuple);
        keyed.emplace_back(std::move(sort_key), std::move(item));
    }
    std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
        return reverse ? compare(runtime, b.first, a.first, "<") < 0
                       : compare(runtime, a.first, b.first, "<") < 0;
    });
    items.clear();
    for (auto& entry : keyed) items.push_back(std::move(entry.second));
    return items;
}

Value sort(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "sort", arguments,
                                {"reverse", "case_sensitive", "attribute"});
    const bool ignore_case = !parameters.is_true(1, false);
    std::vector<Key> keys;
    if (parameters.find(2) && parameters.get(2).is(Kind::text)) {
        const TextPtr comma = make_text(",", true);
        for (TextPtr& part :
             split_text(runtime, parameters.get(2).as_text(), comma.get(), -1, false)) {
            const Value attribute = Value::text(std::move(part));
            keys.push_back(attribute_key(runtime, &attribute, ignore_case));
        }
    } else {
        keys.push_back(attribute_key(runtime, parameters.find(2), ignore_case));
    }
    return runtime.new_list(
        sorted(runtime, iterate(runtime, value), keys, parameters.is_true(0, false)));
}

Value dictsort(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "dictsort", arguments,
                                {"case_sensitive", "by", "reverse"});
    if (!value.is(Kind::dict))
        runtime.fail("dictsort: the value is a {}, not a dict", type_name(value));
    const std::string by = parameters.text(1) ? parameters.text(1)->bytes : "key";
    if (by != "key" && by != "value") runtime.fail("dictsort: by must be 'key' or 'value'");
    const Value position = Value::integer(by == "key" ? 0 : 1);
    const std::vector<Key> keys = {
        attribute_key(runtime, &position, !parameters.is_true(0, false))};
    return runtime.new_list(
        sorted(runtime, dict_items(runtime, value.as_dict()), keys, parameters.is_true(2, false)));
}

Value unique(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "unique", arguments, {"case_sensitive", "attribute"});
    const Key key = attribute_key(runtime, parameters.find(1), !parameters.is_true(0, false));
    std::vector<Value> chosen;
    Dict seen;
    for (Value& item : iterate(runtime, value)) {
        std::string code = key_code(runtime, key(item));
        if (seen.find(code)) continue;
        seen.set(std::move(code), Value(), Value());
        chosen.push_back(std::move(item));
    }
    return runtime.new_list(std::move(chosen), ListType::generator);
}

template <bool wants_largest>
Value extreme(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, wants_largest ? "max" : "min", arguments,
                                {"case_sensitive", "attribute"});
    const Key key = attribute_key(runtime, parameters.find(1), !parameters.is_true(0, false));
    Value best;
    Value best_key;
    bool is_first = true;
    for (const Value& item : iterate(runtime, value)) {
        Value item_key = key(item);
        const bool is_better =
            is_first || (wants_largest ? compare(runtime, best_key, item_key, "<") < 0
                                       : compare(runtime, item_key, best_key, "<") < 0);
        if (is_better) {
            best = item;
            best_key = std::move(item_key);
        }
        is_first = false;
    }
    return best;
}

Value sum(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "sum", arguments, {"attribute", "start"});
    const Key key = attribute_key(runtime, parameters.find(0), false);
    Value total = parameters.find(1) ? parameters.get(1) : Value::integer(0);
    if (total.is(Kind::text)) runtime.fail("sum: strings cannot be summed");
    for (const Value& item : iterate(runtime, value)) {
        total = binary_operation(runtime, Operator::add, total, key(item));
    }
    return total;
}

Value join(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "join", arguments, {"d", "attribute"});
    const TextPtr separator =
        parameters.find(0) ? to_text(runtime, parameters.get(0)) : make_text("", true);
    const Key key = attribute_key(runtime, parameters.find(1), false);
    TextBuilder builder(runtime);
    bool is_first = true;
    for (const Value& item : iterate(runtime, value)) {
        if (!is_first) builder.append(*separator);
        append_text(runtime, builder, key(item));
        is_first = false;
    }
    return Value::text(builder.finish());
}

Value first(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "first", arguments, {});
    const std::vector<Value> items = iterate(runtime, value);
    return items.empty() ? Value() : items.front();
}

Value last(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "last", arguments, {});
    if (value.is(Kind::list) && value.as_list().type == ListType::generator) {
        runtime.fail("a generator has no last element; add '| list'");
    }
    const std::vector<Value> items = iterate(runtime, value);
    return items.empty() ? Value() : items.back();
}

Value count(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "length", arguments, {});
    const int64_t n = length(value);
    if (n < 0) runtime.fail("a {} has no length", type_name(value));
    return Value::integer(n);
}

Value list(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "list", arguments, {});
    return runtime.new_list(iterate(runtime, value));
}

Value reverse(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "reverse", arguments, {});
    if (value.is(Kind::text)) return Value::text(reverse_text(runtime, *value.as_text()));
    std::vector<Value> items = iterate(runtime, value);
    std::reverse(items.begin(), items.end());
    return runtime.new_list(std::move(items), ListType::generator);
}

Value items(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "items", arguments, {});
    if (value.is_undefined()) return runtime.new_list({}, ListType::generator);
    if (!value.is(Kind::dict))
        runtime.fail("items: the value is a {}, not a dict", type_name(value));
    return runtime.new_list(dict_items(runtime, value.as_dict()), ListType::generator);
}

constexpr std::array kSequenceFilters = {
    BuiltinEntry{"select", select<false, true>},
    BuiltinEntry{"reject", select<false, false>},
    BuiltinEntry{"selectattr", select<true, true>},
    BuiltinEntry{"rejectattr", select<true, false>},
    BuiltinEntry{"map", map},
    BuiltinEntry{"sort", sort},
    BuiltinEntry{"dictsort", dictsort},
    BuiltinEntry{"unique", unique},
    BuiltinEntry{"min", extreme<false>},
    BuiltinEntry{"max", extreme<true>},
    BuiltinEntry{"sum", sum},
    BuiltinEntry{"join", join},
    BuiltinEntry{"first", first},
    BuiltinEntry{"last", last},
    BuiltinEntry{"length", count},
    BuiltinEntry{"count", count},
    BuiltinEntry{"list", list},
    BuiltinEntry{"reverse", reverse},
    BuiltinEntry{"items", items},
};

}  // namespace

std::span<const BuiltinEntry> sequence_filters() {
    return kSequenceFilters;
}

}  // namespace nemo::jinja
