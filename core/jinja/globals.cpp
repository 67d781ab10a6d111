// Global functions, and how attributes and items are looked up.
#include "core/jinja/builtins.h"

#include "core/utf8.h"

#include <array>

namespace nemo::jinja {
namespace {

Value range(Runtime& runtime, const Value&, const Arguments& arguments) {
    // The limit of Jinja's sandbox.
    constexpr int64_t kMaxItems = 100'000;
    const Parameters parameters(runtime, "range", arguments, {"start", "stop", "step"}, 1);
    const bool has_start = parameters.find(1) != nullptr;
    const int64_t start = has_start ? parameters.integer(0, 0) : 0;
    const int64_t stop = parameters.integer(has_start ? 1 : 0, 0);
    const int64_t step = parameters.integer(2, 1);
    if (step == 0) runtime.fail("the step of range() is 0");
    std::vector<Value> items;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (items.size() == static_cast<size_t>(kMaxItems)) {
            runtime.fail("range() with more than {} elements", kMaxItems);
        }
        items.push_back(Value::integer(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return runtime.new_list(std::move(items));
}

// The members of a dict given as the one positional argument, then the named ones.
template <class Store>
void collect_members(Runtime& runtime, const char* function, const Arguments& arguments,
                     Store store) {
    if (arguments.positional.size() > 1)
        runtime.fail("{}() takes at most one argument without name", function);
    for (const Value& value : arguments.positional) {
        if (!value.is(Kind::dict))
            runtime.fail("{}() needs a dict, not {}", function, type_name(value));
        for (const auto& [key, member] : value.as_dict().entries) store(key, member);
    }
    for (const auto& [name, value] : arguments.named)
        store(Value::text(make_text(name, true)), value);
}

Value make_namespace(Runtime& runtime, const Value&, const Arguments& arguments) {
    Namespace& created = runtime.new_namespace();
    collect_members(runtime, "namespace", arguments, [&](const Value& key, const Value& value) {
        created.attributes[to_text(runtime, key)->bytes] = value;
    });
    return Value::name_space(&created);
}

Value raise_exception(Runtime& runtime, const Value&, const Arguments& arguments) {
    const Parameters parameters(runtime, "raise_exception", arguments, {"message"}, 1);
    runtime.fail("{}", to_text(runtime, parameters.get(0))->bytes);
}

// Directives are handed to strftime one at a time, so that each has a known and small size. Their
// results carry the mark of the directive: the clock is not the user's.
Value strftime_now(Runtime& runtime, const Value&, const Arguments& arguments) {
    constexpr std::string_view kDirectives = "aAbBcdDeFgGhHIjklmMnpPrRSStTuUVwWxXyYzZ%";
    const Parameters parameters(runtime, "strftime_now", arguments, {"format"}, 1);
    const Text* format = parameters.text(0);
    if (!format) runtime.fail("strftime_now() needs a string");
    TextBuilder out(runtime);
    const std::string& bytes = format->bytes;
    size_t plain = 0;
    for (size_t i = bytes.find('%'); i != std::string::npos; i = bytes.find('%', plain)) {
        out.append(*format, plain, i);
        size_t letter = i + 1;
        std::string directive = "%";
        if (letter < bytes.size() && bytes[letter] == '-') directive += bytes[letter++];
        if (letter >= bytes.size() || kDirectives.find(bytes[letter]) == std::string_view::npos) {
            runtime.fail("strftime_now(): the format '{}' has a directive that is not supported",
                         bytes);
        }
        directive += bytes[letter];
        char buffer[128];
        const size_t n_bytes =
            std::strftime(buffer, sizeof buffer, directive.c_str(), &runtime.now());
        out.append(std::string_view(buffer, n_bytes), format->trusted_at(i));
        plain = letter + 1;
    }
    out.append(*format, plain, bytes.size());
    return Value::text(out.finish());
}

constexpr std::array kGlobals = {
    BuiltinEntry{"range", range},
    BuiltinEntry{"dict", make_dict},
    BuiltinEntry{"namespace", make_namespace},
    BuiltinEntry{"raise_exception", raise_exception},
    BuiltinEntry{"strftime_now", strftime_now},
};

Value loop_cycle(Runtime& runtime, const Value& self, const Arguments& arguments) {
    if (arguments.positional.empty()) runtime.fail("loop.cycle() needs something to cycle through");
    return arguments.positional[self.as_loop().index % arguments.positional.size()];
}

Value loop_attribute(Runtime& runtime, const Value& value, std::string_view name) {
    const Loop& loop = value.as_loop();
    const auto item = [&](size_t index) {
        return index < loop.items.size() ? loop.items[index] : Value();
    };
    if (name == "index") return Value::count(loop.index + 1);
    if (name == "index0") return Value::count(loop.index);
    if (name == "length") return Value::count(loop.n_items);
    if (name == "revindex") return Value::integer(static_cast<int64_t>(loop.n_items - loop.index));
    if (name == "revindex0")
        return Value::integer(static_cast<int64_t>(loop.n_items - loop.index) - 1);
    if (name == "first") return Value::boolean(loop.index == 0);
    if (name == "last") return Value::boolean(loop.index + 1 >= loop.n_items);
    if (name == "previtem") return loop.index > 0 ? item(loop.index - 1) : Value();
    if (name == "nextitem") return item(loop.index + 1);
    if (name == "depth") return Value::integer(1);
    if (name == "depth0") return Value::integer(0);
    if (name != "cycle") return {};
    Callable cycle;
    cycle.name = "cycle";
    cycle.builtin = loop_cycle;
    cycle.self = value;
    return Value::callable(&runtime.new_callable(std::move(cycle)));
}

}  // namespace

Value make_dict(Runtime& runtime, const Value&, const Arguments& arguments) {
    Dict& dict = runtime.new_dict();
    collect_members(runtime, "dict", arguments, [&](const Value& key, const Value& value) {
        dict.set(key_code(runtime, key), key, value);
    });
    return Value::dict(&dict);
}

std::span<const BuiltinEntry> global_functions() {
    return kGlobals;
}

Builtin find_entry(std::span<const BuiltinEntry> table, std::string_view name) {
    for (const BuiltinEntry& entry : table) {
        if (entry.name == name) return entry.function;
    }
    return nullptr;
}

Value get_attribute(Runtime& runtime, const Value& value, std::string_view name) {
    if (value.is(Kind::loop)) return loop_attribute(runtime, value, name);
    if (value.is(Kind::name_space)) {
        const auto found = value.as_namespace().attributes.find(name);
        return found == value.as_namespace().attributes.end() ? Value() : found->second;
    }
    // A method hides a member of the same name, as in Jinja.
    if (const Builtin method = find_method(value, name)) {
        Callable callable;
        callable.name = name;
        callable.builtin = method;
        callable.self = value;
        return Value::callable(&runtime.new_callable(std::move(callable)));
    }
    if (value.is(Kind::callable) && name == "name") {
        return Value::text(make_text(value.as_callable().name, true));
    }
    if (!value.is(Kind::dict)) return {};
    const Value* member = value.as_dict().find(text_key_code(name));
    return member ? *member : Value();
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
    if (value.is(Kind::dict)) {
        const bool is_hashable = key.is(Kind::list)
                                     ? key.as_list().type == ListType::tuple
                                     : key.is_number() || key.is(Kind::text) || key.is(Kind::none);
        const Value* member = is_hashable ? value.as_dict().find(key_code(runtime, key)) : nullptr;
        if (member) return *member;
    } else if ((value.is(Kind::list) || value.is(Kind::text)) && key.is_integer()) {
        if (value.is(Kind::list) && value.as_list().type == ListType::generator) return {};
        const int64_t n = length(value);
        const int64_t index = key.as_integer() < 0 ? key.as_integer() + n : key.as_integer();
        if (index < 0 || index >= n) return {};
        if (value.is(Kind::list)) return value.as_list().items[static_cast<size_t>(index)];
        const TextPtr& text = value.as_text();
        runtime.step(static_cast<int64_t>(text->is_ascii() ? 0 : text->bytes.size() / 64));
        const size_t begin = byte_offset(*text, static_cast<size_t>(index));
        const size_t end = begin + static_cast<size_t>(decode_utf8(text->bytes, begin).n_bytes);
        return Value::text(substring(runtime, text, begin, end));
    }
    if (!key.is(Kind::text)) return {};
    // obj["x"] falls back to obj.x; a dict's members have been tried already.
    if (value.is(Kind::dict) && !find_method(value, key.as_text()->bytes)) return {};
    return get_attribute(runtime, value, key.as_text()->bytes);
}

}  // namespace nemo::jinja
