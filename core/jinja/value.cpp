#include "core/jinja/value.h"

#include "core/jinja/runtime.h"
#include "core/utf8.h"

#include <algorithm>
#include <cmath>

namespace nemo::jinja {

bool Value::is_same(const Value& other) const {
    return storage_ == other.storage_;
}

const Value* Dict::find(std::string_view code) const {
    const auto found = index.find(code);
    return found == index.end() ? nullptr : &entries[found->second].second;
}

void Dict::set(std::string code, Value key, Value value) {
    const auto [slot, is_new] = index.try_emplace(std::move(code), entries.size());
    if (is_new) {
        entries.emplace_back(std::move(key), std::move(value));
    } else {
        entries[slot->second].second = std::move(value);
    }
}

Value Dict::take(const std::string& code) {
    const auto found = index.find(code);
    const size_t position = found->second;
    Value value = std::move(entries[position].second);
    entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(position));
    index.erase(found);
    for (auto& [other_code, other] : index) {
        if (other > position) --other;
    }
    return value;
}

const char* type_name(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
            return "undefined";
        case Kind::none:
            return "None";
        case Kind::boolean:
            return "bool";
        case Kind::integer:
            return "int";
        case Kind::real:
            return "float";
        case Kind::text:
            return "str";
        case Kind::dict:
            return "dict";
        case Kind::name_space:
            return "namespace";
        case Kind::callable:
            return "function";
        case Kind::loop:
            return "loop";
        case Kind::list:
            break;
    }
    switch (value.as_list().type) {
        case ListType::list:
            return "list";
        case ListType::tuple:
            return "tuple";
        case ListType::generator:
            break;
    }
    return "generator";
}

bool is_true(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
        case Kind::none:
            return false;
        case Kind::boolean:
        case Kind::integer:
            return value.as_integer() != 0;
        case Kind::real:
            return value.as_real() != 0;
        case Kind::text:
            return !value.as_text()->bytes.empty();
        case Kind::list:
            return value.as_list().type == ListType::generator || !value.as_list().items.empty();
        case Kind::dict:
            return !value.as_dict().entries.empty();
        case Kind::loop:
            return value.as_loop().n_items > 0;
        case Kind::name_space:
        case Kind::callable:
            break;
    }
    return true;
}

std::string text_key_code(std::string_view text) {
    return "s" + std::string(text);
}

std::string key_code(Runtime& runtime, const Value& value) {
    const Runtime::Nesting nesting(runtime);
    runtime.step();
    switch (value.kind()) {
        case Kind::undefined:
            return "u";
        case Kind::none:
            return "n";
        case Kind::boolean:
        case Kind::integer:
            return "i" + std::to_string(value.as_integer());
        case Kind::real: {
            const double real = value.as_real();
            const bool is_whole = real == std::floor(real) && std::abs(real) < 0x1p63;
            return is_whole ? "i" + std::to_string(static_cast<int64_t>(real))
                            : "r" + json_real_text(real);
        }
        case Kind::text:
            runtime.check_text_size(0, value.as_text()->bytes.size());
            return text_key_code(value.as_text()->bytes);
        case Kind::list: {
            if (value.as_list().type != ListType::tuple) break;
            std::string code = "t";
            for (const Value& item : value.as_list().items) {
                const std::string item_code = key_code(runtime, item);
                runtime.check_text_size(code.size(), item_code.size());
                code += std::to_string(item_code.size()) + ":" + item_code;
            }
            return code;
        }
        default:
            break;
    }
    runtime.fail("a {} cannot be a key of a dict", type_name(value));
}

bool is_equal(Runtime& runtime, const Value& left, const Value& right) {
    const Runtime::Nesting nesting(runtime);
    runtime.step();
    if (left.is_number() && right.is_number()) return compare(runtime, left, right, "==") == 0;
    if (left.kind() != right.kind()) return false;
    switch (left.kind()) {
        case Kind::undefined:
            return true;
        case Kind::text:
            runtime.step(static_cast<int64_t>(left.as_text()->bytes.size() / 1024));
            return left.as_text()->bytes == right.as_text()->bytes;
        case Kind::list: {
            const List& a = left.as_list();
            const List& b = right.as_list();
            if (a.type == ListType::generator || b.type == ListType::generator) return &a == &b;
            return a.type == b.type &&
                   std::equal(
                       a.items.begin(), a.items.end(), b.items.begin(), b.items.end(),
                       [&](const Value& x, const Value& y) { return is_equal(runtime, x, y); });
        }
        case Kind::dict: {
            const Dict& a = left.as_dict();
            const Dict& b = right.as_dict();
            if (a.entries.size() != b.entries.size()) return false;
            for (const auto& [code, position] : a.index) {
                const Value* other = b.find(code);
                if (!other || !is_equal(runtime, a.entries[position].second, *other)) return false;
            }
            return true;
        }
        default:
            return left.is_same(right);
    }
}

int compare(Runtime& runtime, const Value& left, const Value& right, const char* operation) {
    const Runtime::Nesting nesting(runtime);
    runtime.step();
    if (left.is_number() && right.is_number()) {
        // Holds every int64 and every double exactly.
        const auto exact = [](const Value& value) {
            return value.is_integer() ? static_cast<long double>(value.as_integer())
                                      : static_cast<long double>(value.as_real());
        };
        const long double a = exact(left);
        const long double b = exact(right);
        // NaN is neither less nor equal.
        return a < b ? -1 : a == b ? 0 : 1;
    }
    if (left.is(Kind::text) && right.is(Kind::text)) {
        runtime.step(static_cast<int64_t>(left.as_text()->bytes.size() / 1024));
        const int order = left.as_text()->bytes.compare(right.as_text()->bytes);
        return order < 0 ? -1 : order > 0 ? 1 : 0;
    }
    if (left.is(Kind::list) && right.is(Kind::list) &&
        left.as_list().type == right.as_list().type && left.as_list().type != ListType::generator) {
        const std::vector<Value>& a = left.as_list().items;
        const std::vector<Value>& b = right.as_list().items;
        for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
            if (!is_equal(runtime, a[i], b[i])) return compare(runtime, a[i], b[i], operation);
        }
        return a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
    }
    runtime.fail("'{}' is not supported between {} and {}", operation, type_name(left),
                 type_name(right));
}

std::vector<Value> iterate(Runtime& runtime, const Value& value) {
    std::vector<Value> items;
    switch (value.kind()) {
        case Kind::undefined:
            return items;
        case Kind::list:
            runtime.step(static_cast<int64_t>(value.as_list().items.size() / 4));
            if (value.as_list().type == ListType::generator) {
                items.swap(value.as_list().items);
            } else {
                items = value.as_list().items;
            }
            return items;
        case Kind::dict:
            runtime.step(static_cast<int64_t>(value.as_dict().entries.size()));
            for (const auto& entry : value.as_dict().entries) items.push_back(entry.first);
            return items;
        case Kind::text: {
            const TextPtr& text = value.as_text();
            runtime.step(static_cast<int64_t>(text->n_chars) * 2);
            for (size_t i = 0; i < text->bytes.size();) {
                const size_t next = i + static_cast<size_t>(decode_utf8(text->bytes, i).n_bytes);
                items.push_back(Value::text(substring(runtime, text, i, next)));
                i = next;
            }
            return items;
        }
        default:
            runtime.fail("a {} is not iterable", type_name(value));
    }
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
    switch (container.kind()) {
        case Kind::text:
            if (!item.is(Kind::text)) {
                runtime.fail("'in' needs a string on its left side here, not {}", type_name(item));
            }
            return find_text(runtime, container.as_text()->bytes, item.as_text()->bytes, 0) !=
                   std::string::npos;
        case Kind::dict:
            return container.as_dict().find(key_code(runtime, item)) != nullptr;
        default: {
            const std::vector<Value> items = iterate(runtime, container);
            return std::any_of(items.begin(), items.end(),
                               [&](const Value& other) { return is_equal(runtime, item, other); });
        }
    }
}

int64_t length(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
            return 0;
        case Kind::text:
            return static_cast<int64_t>(value.as_text()->n_chars);
        case Kind::dict:
            return static_cast<int64_t>(value.as_dict().entries.size());
        case Kind::loop:
            return static_cast<int64_t>(value.as_loop().n_items);
        case Kind::list:
            return value.as_list().type == ListType::generator
                       ? -1
                       : static_cast<int64_t>(value.as_list().items.size());
        default:
            return -1;
    }
}

TextPtr to_text(Runtime& runtime, const Value& value) {
    if (value.is(Kind::text)) return value.as_text();
    TextBuilder builder(runtime);
    append_text(runtime, builder, value);
    return builder.finish();
}

void append_text(Runtime& runtime, TextBuilder& out, const Value& value) {
    if (value.is(Kind::text)) {
        out.append(*value.as_text());
    } else if (!value.is_undefined()) {
        append_repr(runtime, out, value);
    }
}

namespace {

void append_text_repr(TextBuilder& out, const Text& text) {
    const bool has_single = text.bytes.find('\'') != std::string::npos;
    const bool has_double = text.bytes.find('"') != std::string::npos;
    const char quote = has_single && !has_double ? '"' : '\'';
    out.append(std::string_view(&quote, 1), false);
    size_t plain = 0;  // begin of what can be copied as it is
    for (size_t i = 0; i < text.bytes.size();) {
        const char byte = text.bytes[i];
        if (byte >= ' ' && byte <= '~' && byte != '\\' && byte != quote) {
            ++i;
            continue;
        }
        const CodePoint point = decode_utf8(text.bytes, i);
        const auto n_bytes = static_cast<size_t>(point.n_bytes);
        const auto c = static_cast<uint32_t>(point.value);
        std::string escaped;
        if (c == '\\' || c == static_cast<uint32_t>(quote)) {
            escaped = {'\\', static_cast<char>(c)};
        } else if (c == '\n' || c == '\r' || c == '\t') {
            escaped = c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
        } else if (!is_printable(point.value)) {
            escaped = c < 0x100     ? fmt::format("\\x{:02x}", c)
                      : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                                    : fmt::format("\\U{:08x}", c);
        }
        if (!escaped.empty()) {
            out.append(text, plain, i);
            out.append(escaped, text.trusted_at(i));
            plain = i + n_bytes;
        }
        i += n_bytes;
    }
    out.append(text, plain, text.bytes.size());
    out.append(std::string_view(&quote, 1), false);
}

std::string real_repr(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    return json_real_text(value);
}

void append_list_repr(Runtime& runtime, TextBuilder& out, const List& list) {
    const bool is_tuple = list.type == ListType::tuple;
    out.append(is_tuple ? "(" : "[", false);
    for (size_t i = 0; i < list.items.size(); ++i) {
        if (i > 0) out.append(", ", false);
        append_repr(runtime, out, list.items[i]);
    }
    if (is_tuple && list.items.size() == 1) out.append(",", false);
    out.append(is_tuple ? ")" : "]", false);
}

void append_dict_repr(Runtime& runtime, TextBuilder& out, const Dict& dict) {
    out.append("{", false);
    for (size_t i = 0; i < dict.entries.size(); ++i) {
        if (i > 0) out.append(", ", false);
        append_repr(runtime, out, dict.entries[i].first);
        out.append(": ", false);
        append_repr(runtime, out, dict.entries[i].second);
    }
    out.append("}", false);
}

}  // namespace

void append_repr(Runtime& runtime, TextBuilder& out, const Value& value) {
    const Runtime::Nesting nesting(runtime);
    runtime.step();
    switch (value.kind()) {
        case Kind::undefined:
            out.append("Undefined", false);
            break;
        case Kind::none:
            out.append("None", false);
            break;
        case Kind::boolean:
            out.append(value.as_boolean() ? "True" : "False", false);
            break;
        case Kind::integer:
            out.append(std::to_string(value.as_integer()), false);
            break;
        case Kind::real:
            out.append(real_repr(value.as_real()), false);
            break;
        case Kind::text:
            append_text_repr(out, *value.as_text());
            break;
        case Kind::dict:
            append_dict_repr(runtime, out, value.as_dict());
            break;
        case Kind::list:
            if (value.as_list().type == ListType::generator) {
                runtime.fail("a generator cannot be printed; add '| list'");
            }
            append_list_repr(runtime, out, value.as_list());
            break;
        default:
            runtime.fail("a {} cannot be printed", type_name(value));
    }
}

}  // namespace nemo::jinja
