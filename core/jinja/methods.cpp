// Methods of lists and dicts. Those that change their object work on values made inside the
// rendering only: the input is converted anew for each.
#include "core/jinja/builtins.h"

#include <algorithm>
#include <array>

namespace nemo::jinja {
namespace {

Value append(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "append", arguments, {"object"}, 1);
    self.as_list().items.push_back(parameters.get(0));
    return Value::none();
}

Value extend(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "extend", arguments, {"iterable"}, 1);
    std::vector<Value> more = iterate(runtime, parameters.get(0));
    std::vector<Value>& items = self.as_list().items;
    items.insert(items.end(), more.begin(), more.end());
    return Value::none();
}

// Python's reading of an index that may be negative and may lie outside.
size_t insert_position(int64_t index, size_t n_items) {
    const auto n = static_cast<int64_t>(n_items);
    return static_cast<size_t>(
        std::clamp<int64_t>(index < 0 ? std::max<int64_t>(index, -n) + n : index, 0, n));
}

Value insert(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "insert", arguments, {"index", "object"}, 2);
    std::vector<Value>& items = self.as_list().items;
    const size_t position = insert_position(parameters.integer(0, 0), items.size());
    runtime.step(static_cast<int64_t>((items.size() - position) / 16));
    items.insert(items.begin() + static_cast<std::ptrdiff_t>(position), parameters.get(1));
    return Value::none();
}

Value pop_item(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "pop", arguments, {"index"});
    std::vector<Value>& items = self.as_list().items;
    const auto n = static_cast<int64_t>(items.size());
    const int64_t given = parameters.integer(0, -1);
    const int64_t index = given < 0 && given >= -n ? given + n : given;
    if (index < 0 || index >= n) runtime.fail("pop() from position {} of {} elements", given, n);
    runtime.step((n - index) / 16);
    const auto place = items.begin() + index;
    Value item = std::move(*place);
    items.erase(place);
    return item;
}

Value count_items(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "count", arguments, {"value"}, 1);
    int64_t n_found = 0;
    for (const Value& item : self.as_list().items) {
        if (is_equal(runtime, item, parameters.get(0))) ++n_found;
    }
    return Value::integer(n_found);
}

Value index_of(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "index", arguments, {"value"}, 1);
    const std::vector<Value>& items = self.as_list().items;
    for (size_t i = 0; i < items.size(); ++i) {
        if (is_equal(runtime, items[i], parameters.get(0))) return Value::count(i);
    }
    runtime.fail("the value is not in the list");
}

Value copy_list(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "copy", arguments, {});
    return runtime.new_list(iterate(runtime, self));
}

Value get(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "get", arguments, {"key", "default"}, 1);
    if (const Value* member = self.as_dict().find(key_code(runtime, parameters.get(0))))
        return *member;
    return parameters.find(1) ? parameters.get(1) : Value::none();
}

Value keys(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "keys", arguments, {});
    return runtime.new_list(iterate(runtime, self));
}

Value values(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "values", arguments, {});
    std::vector<Value> members;
    for (const auto& entry : self.as_dict().entries) members.push_back(entry.second);
    return runtime.new_list(std::move(members));
}

Value items(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "items", arguments, {});
    return runtime.new_list(dict_items(runtime, self.as_dict()));
}

Value pop_member(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "pop", arguments, {"key", "default"}, 1);
    const std::string code = key_code(runtime, parameters.get(0));
    Dict& dict = self.as_dict();
    runtime.step(static_cast<int64_t>(dict.entries.size()));
    if (dict.find(code)) return dict.take(code);
    if (!parameters.find(1)) runtime.fail("pop(): the key is not in the dict");
    return parameters.get(1);
}

Value update(Runtime& runtime, const Value& self, const Arguments& arguments) {
    // A dict updated with itself must not be walked while it grows.
    const Value added = make_dict(runtime, Value(), arguments);
    for (const auto& [key, value] : added.as_dict().entries) {
        self.as_dict().set(key_code(runtime, key), key, value);
    }
    return Value::none();
}

Value setdefault(Runtime& runtime, const Value& self, const Arguments& arguments) {
    const Parameters parameters(runtime, "setdefault", arguments, {"key", "default"}, 1);
    const std::string code = key_code(runtime, parameters.get(0));
    if (const Value* member = self.as_dict().find(code)) return *member;
    Value value = parameters.find(1) ? parameters.get(1) : Value::none();
    self.as_dict().set(code, parameters.get(0), value);
    return value;
}

Value copy_dict(Runtime& runtime, const Value& self, const Arguments& arguments) {
    Parameters(runtime, "copy", arguments, {});
    runtime.step(static_cast<int64_t>(self.as_dict().entries.size()));
    Dict& dict = runtime.new_dict();
    dict = self.as_dict();
    return Value::dict(&dict);
}

constexpr std::array kListMethods = {
    BuiltinEntry{"append", append},     BuiltinEntry{"extend", extend},
    BuiltinEntry{"insert", insert},     BuiltinEntry{"pop", pop_item},
    BuiltinEntry{"count", count_items}, BuiltinEntry{"index", index_of},
    BuiltinEntry{"copy", copy_list},
};
constexpr std::array kTupleMethods = {
    BuiltinEntry{"count", count_items},
    BuiltinEntry{"index", index_of},
};
constexpr std::array kDictMethods = {
    BuiltinEntry{"get", get},        BuiltinEntry{"keys", keys},
    BuiltinEntry{"values", values},  BuiltinEntry{"items", items},
    BuiltinEntry{"pop", pop_member}, BuiltinEntry{"update", update},
    BuiltinEntry{"copy", copy_dict}, BuiltinEntry{"setdefault", setdefault},
};

}  // namespace

std::vector<Value> dict_items(Runtime& runtime, const Dict& dict) {
    std::vector<Value> pairs;
    for (const auto& [key, value] : dict.entries) {
        pairs.push_back(runtime.new_list({key, value}, ListType::tuple));
    }
    return pairs;
}

Builtin find_method(const Value& value, std::string_view name) {
    switch (value.kind()) {
        case Kind::text:
            return find_entry(text_methods(), name);
        case Kind::dict:
            return find_entry(kDictMethods, name);
        case Kind::list:
            break;
        default:
            return nullptr;
    }
    switch (value.as_list().type) {
        case ListType::list:
            return find_entry(kListMethods, name);
        case ListType::tuple:
            return find_entry(kTupleMethods, name);
        case ListType::generator:
            break;
    }
    return nullptr;
}

}  // namespace nemo::jinja
