// Values of the template language, as Python has them. Scalars and strings are values; lists, dicts
// and the like are references into the runtime's heap, which lives as long as one rendering: cycles
// (`l.append(l)`) and deep nesting then cost nothing to free.
#pragma once

#include "core/jinja/text.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace nemo::jinja {

class Runtime;
class Value;
struct List;
struct Dict;
struct Namespace;
struct Callable;
struct Loop;

// In the order of Value's alternatives.
enum class Kind {
    undefined,
    none,
    boolean,
    integer,
    real,
    text,
    list,
    dict,
    name_space,
    callable,
    loop
};

class Value {
public:
    Value() = default;  // undefined
    static Value none() { return Value(None{}); }
    static Value boolean(bool value) { return Value(value); }
    static Value integer(int64_t value) { return Value(value); }
    static Value count(size_t value) { return Value(static_cast<int64_t>(value)); }
    static Value real(double value) { return Value(value); }
    static Value text(TextPtr value) { return Value(std::move(value)); }
    static Value list(List* value) { return Value(value); }
    static Value dict(Dict* value) { return Value(value); }
    static Value name_space(Namespace* value) { return Value(value); }
    static Value callable(Callable* value) { return Value(value); }
    static Value loop(std::shared_ptr<Loop> value) { return Value(std::move(value)); }

    Kind kind() const { return static_cast<Kind>(storage_.index()); }
    bool is(Kind kind) const { return this->kind() == kind; }
    bool is_undefined() const { return is(Kind::undefined); }
    // Python's bool is an int.
    bool is_integer() const { return is(Kind::integer) || is(Kind::boolean); }
    bool is_number() const { return is_integer() || is(Kind::real); }

    // Call only after the matching check.
    bool as_boolean() const { return std::get<bool>(storage_); }
    int64_t as_integer() const {
        return is(Kind::boolean) ? int64_t{as_boolean()} : std::get<int64_t>(storage_);
    }
    double as_real() const {
        return is(Kind::real) ? std::get<double>(storage_) : static_cast<double>(as_integer());
    }
    const TextPtr& as_text() const { return std::get<TextPtr>(storage_); }
    List& as_list() const { return *std::get<List*>(storage_); }
    Dict& as_dict() const { return *std::get<Dict*>(storage_); }
    Namespace& as_namespace() const { return *std::get<Namespace*>(storage_); }
    Callable& as_callable() const { return *std::get<Callable*>(storage_); }
    Loop& as_loop() const { return *std::get<std::shared_ptr<Loop>>(storage_); }
    // The same object, as Python's `is` asks; scalars of one kind and value are the same.
    bool is_same(const Value& other) const;

private:
    struct None {
        bool operator==(const None&) const = default;
    };
    using Storage = std::variant<std::monostate, None, bool, int64_t, double, TextPtr, List*, Dict*,
                                 Namespace*, Callable*, std::shared_ptr<Loop>>;
    template <class T>
    explicit Value(T value) : storage_(std::move(value)) {}

    Storage storage_;
};

// What a generator yields is kept as a list; iterating empties it, as it would be in Python.
enum class ListType { list, tuple, generator };

struct List {
    ListType type = ListType::list;
    std::vector<Value> items;
};

// Keeps the order of insertion. Keys are looked up by their code (key_code below); a tree, so that
// no choice of keys makes it slow.
struct Dict {
    std::vector<std::pair<Value, Value>> entries;
    std::map<std::string, size_t, std::less<>> index;

    const Value* find(std::string_view code) const;
    void set(std::string code, Value key, Value value);
    Value take(const std::string& code);  // the key must be there
};

struct Namespace {
    std::map<std::string, Value, std::less<>> attributes;
};

// One running `for`; `items` goes away when the loop ends.
struct Loop {
    std::vector<Value> items;
    size_t index = 0;
    size_t n_items = 0;
    int depth = 0;  // always 0: recursive loops are not supported
};

// Arguments of a call, in the order written.
struct Arguments {
    std::vector<Value> positional;
    std::vector<std::pair<std::string, Value>> named;
};

// A filter, test, method or global function. `self` is what it is applied to.
using Builtin = Value (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

struct MacroDefinition;
struct Frame;

struct Callable {
    std::string name;
    Builtin builtin = nullptr;  // with `self`; otherwise a macro with the frame it was defined in
    Value self;
    const MacroDefinition* macro = nullptr;
    std::shared_ptr<Frame> frame;
};

// For messages: "str", "list", ...
const char* type_name(const Value& value);

bool is_true(const Value& value);
// Python's hash and equality of keys in one text: 1, 1.0 and True have the same. Fails for lists
// and dicts.
std::string key_code(Runtime& runtime, const Value& value);
std::string text_key_code(std::string_view text);
bool is_equal(Runtime& runtime, const Value& left, const Value& right);
// -1, 0, 1; fails where Python's < does. `operation` is for the message.
int compare(Runtime& runtime, const Value& left, const Value& right, const char* operation);
// The elements that `for` sees. Empties a generator.
std::vector<Value> iterate(Runtime& runtime, const Value& value);
bool contains(Runtime& runtime, const Value& container, const Value& item);
// len(), or -1 if the value has none.
int64_t length(const Value& value);

// str() and repr().
TextPtr to_text(Runtime& runtime, const Value& value);
void append_text(Runtime& runtime, TextBuilder& out, const Value& value);
void append_repr(Runtime& runtime, TextBuilder& out, const Value& value);

}  // namespace nemo::jinja
