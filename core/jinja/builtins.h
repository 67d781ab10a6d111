// The functions that templates may use. Lookups give nullptr for a name that is not known.
#pragma once

#include "core/jinja/runtime.h"

#include <span>
#include <string_view>

namespace nemo::jinja {

// `value | name(...)`
Builtin find_filter(std::string_view name);
// `value is name(...)`; gives a boolean.
Builtin find_test(std::string_view name);
// `value.name(...)`, by the type of the value.
Builtin find_method(const Value& value, std::string_view name);

struct BuiltinEntry {
    std::string_view name;
    Builtin function;
};

Builtin find_entry(std::span<const BuiltinEntry> table, std::string_view name);

// range, dict, namespace, raise_exception, strftime_now; their `self` is undefined.
std::span<const BuiltinEntry> global_functions();
Value make_dict(Runtime& runtime, const Value& self, const Arguments& arguments);
// The members as tuples (key, value).
std::vector<Value> dict_items(Runtime& runtime, const Dict& dict);

// The parts of the tables that live in files of their own.
std::span<const BuiltinEntry> sequence_filters();
std::span<const BuiltinEntry> text_methods();

// `value.name` and `value[key]` as Jinja looks them up: what is missing gives undefined.
Value get_attribute(Runtime& runtime, const Value& value, std::string_view name);
Value get_item(Runtime& runtime, const Value& value, const Value& key);

// value | tojson
Value to_json_filter(Runtime& runtime, const Value& value, const Arguments& arguments);
// A JSON value from outside; its strings get the mark `trusted`.
Value from_json(Runtime& runtime, const Json& json, bool trusted);

// `format % arguments`, and str.format().
TextPtr format_percent(Runtime& runtime, const Text& format, const Value& arguments);
Value format_braces(Runtime& runtime, const Value& format, const Arguments& arguments);

}  // namespace nemo::jinja
