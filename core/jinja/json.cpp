// JSON in and out of templates. tojson prints as transformers' own tojson does: Python's json.dumps
// with ensure_ascii off, and no HTML escapes.
#include "core/jinja/builtins.h"

#include "core/utf8.h"

#include <algorithm>

namespace nemo::jinja {
namespace {

struct JsonStyle {
    bool ensure_ascii = false;
    bool sort_keys = false;
    bool has_indent = false;
    std::string indent;
    std::string item_separator = ", ";
    std::string key_separator = ": ";
};

class JsonPrinter {
public:
    JsonPrinter(Runtime& runtime, const JsonStyle& style, TextBuilder& out)
        : runtime_(runtime), style_(style), out_(out) {}

    void print(const Value& value, int level) {
        const Runtime::Nesting nesting(runtime_);
        runtime_.step();
        switch (value.kind()) {
            case Kind::none:
                put("null");
                break;
            case Kind::boolean:
                put(value.as_boolean() ? "true" : "false");
                break;
            case Kind::integer:
                put(std::to_string(value.as_integer()));
                break;
            case Kind::real:
                put(json_real_text(value.as_real()));
                break;
            case Kind::text:
                print_text(*value.as_text());
                break;
            case Kind::dict:
                print_dict(value.as_dict(), level);
                break;
            case Kind::list:
                if (value.as_list().type != ListType::generator) {
                    print_list(value.as_list(), level);
                    break;
                }
                [[fallthrough]];
            default:
                runtime_.fail("a {} cannot be written as JSON", type_name(value));
        }
    }

private:
    // What JSON adds is not the template's text.
    void put(std::string_view text) { out_.append(text, false); }

    void new_line(int level) {
        if (!style_.has_indent) return;
        put("\n");
        for (int i = 0; i < level; ++i) put(style_.indent);
    }

    void print_list(const List& list, int level) {
        if (list.items.empty()) return put("[]");
        put("[");
        for (size_t i = 0; i < list.items.size(); ++i) {
            if (i > 0) put(style_.item_separator);
            new_line(level + 1);
            print(list.items[i], level + 1);
        }
        new_line(level);
        put("]");
    }

    void print_dict(const Dict& dict, int level) {
        if (dict.entries.empty()) return put("{}");
        std::vector<const std::pair<Value, Value>*> entries;
        for (const auto& entry : dict.entries) entries.push_back(&entry);
        if (style_.sort_keys) {
            std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
                return compare(runtime_, a->first, b->first, "<") < 0;
            });
        }
        put("{");
        for (size_t i = 0; i < entries.size(); ++i) {
            if (i > 0) put(style_.item_separator);
            new_line(level + 1);
            print_key(entries[i]->first);
            put(style_.key_separator);
            print(entries[i]->second, level + 1);
        }
        new_line(level);
        put("}");
    }

    void print_key(const Value& key) {
        if (key.is(Kind::text)) return print_text(*key.as_text());
        if (!key.is_number() && !key.is(Kind::none)) {
            runtime_.fail("a {} cannot be a key in JSON", type_name(key));
        }
        put("\"");
        print(key, 0);
        put("\"");
    }

    void print_text(const Text& text) {
        put("\"");
        size_t begin = 0;
        for (const Text::Run& run : text.runs) {
            std::string escaped;
            append_json_string(escaped,
                               std::string_view(text.bytes).substr(begin, run.end - begin));
            const std::string_view inner = std::string_view(escaped).substr(1, escaped.size() - 2);
            out_.append(style_.ensure_ascii ? only_ascii(inner) : std::string(inner), run.trusted);
            begin = run.end;
        }
        put("\"");
    }

    static std::string only_ascii(std::string_view text) {
        std::string ascii;
        for (size_t i = 0; i < text.size();) {
            const CodePoint point = decode_utf8(text, i);
            const auto c = static_cast<uint32_t>(point.value);
            i += static_cast<size_t>(point.n_bytes);
            if (c < 0x7F) {
                ascii.push_back(static_cast<char>(c));
            } else if (c < 0x10000) {
                ascii += fmt::format("\\u{:04x}", c);
            } else {
                ascii += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                                     0xDC00 + ((c - 0x10000) & 0x3FF));
            }
        }
        return ascii;
    }

    Runtime& runtime_;
    const JsonStyle& style_;
    TextBuilder& out_;
};

void read_separators(Runtime& runtime, const Value& value, JsonStyle& style) {
    const bool is_pair = value.is(Kind::list) && value.as_list().items.size() == 2 &&
                         value.as_list().items[0].is(Kind::text) &&
                         value.as_list().items[1].is(Kind::text);
    if (!is_pair) runtime.fail("tojson(): separators must be two strings");
    style.item_separator = value.as_list().items[0].as_text()->bytes;
    style.key_separator = value.as_list().items[1].as_text()->bytes;
}

}  // namespace

Value to_json_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "tojson", arguments,
                                {"ensure_ascii", "indent", "separators", "sort_keys"});
    JsonStyle style;
    style.ensure_ascii = parameters.is_true(0, false);
    style.sort_keys = parameters.is_true(3, false);
    const Value* indent = parameters.find(1);
    if (indent && !indent->is(Kind::none)) {
        style.has_indent = true;
        style.item_separator = ",";
        if (indent->is(Kind::text)) {
            style.indent = indent->as_text()->bytes;
        } else {
            constexpr int64_t kMaxIndent = 1000;
            const int64_t n_spaces = std::max<int64_t>(parameters.integer(1, 0), 0);
            if (n_spaces > kMaxIndent) runtime.fail("tojson(): indent is above {}", kMaxIndent);
            style.indent.assign(static_cast<size_t>(n_spaces), ' ');
        }
    }
    const Value* separators = parameters.find(2);
    if (separators && !separators->is(Kind::none)) read_separators(runtime, *separators, style);
    TextBuilder out(runtime);
    JsonPrinter(runtime, style, out).print(value, 0);
    return Value::text(out.finish());
}

Value from_json(Runtime& runtime, const Json& json, bool trusted) {
    const Runtime::Nesting nesting(runtime);
    if (json.is_null()) return Value::none();
    if (json.is_bool()) return Value::boolean(json.boolean());
    if (json.is_integer()) return Value::integer(json.integer());
    if (json.is_real()) return Value::real(json.number());
    if (json.is_string()) return Value::text(make_text(sanitize_utf8(json.string()), trusted));
    if (json.is_array()) {
        std::vector<Value> items;
        items.reserve(json.array().size());
        for (const Json& element : json.array())
            items.push_back(from_json(runtime, element, trusted));
        return runtime.new_list(std::move(items));
    }
    Dict& dict = runtime.new_dict();
    for (const Json::Member& member : json.object()) {
        const TextPtr key = make_text(sanitize_utf8(member.first), trusted);
        dict.set(text_key_code(key->bytes), Value::text(key),
                 from_json(runtime, member.second, trusted));
    }
    return Value::dict(&dict);
}

}  // namespace nemo::jinja
