// JSON as a plain value: parsing of hostile text with limits, and printing.
//
// Object members keep their order. Accepts the non-standard Infinity, -Infinity and NaN that Python
// writes into config.json. Refuses duplicate keys, invalid UTF-8, trailing text and deep nesting.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nemo {

class Json {
public:
    using Array = std::vector<Json>;
    using Member = std::pair<std::string, Json>;
    using Object = std::vector<Member>;

    Json() = default;
    Json(std::nullptr_t) {}
    Json(bool value) : value_(value) {}
    Json(int value) : value_(int64_t{value}) {}
    Json(int64_t value) : value_(value) {}
    Json(double value) : value_(value) {}
    Json(const char* value) : value_(std::string(value)) {}
    Json(std::string value) : value_(std::move(value)) {}
    Json(Array value) : value_(std::move(value)) {}
    Json(Object value) : value_(std::move(value)) {}

    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
    bool is_bool() const { return std::holds_alternative<bool>(value_); }
    bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
    bool is_real() const { return std::holds_alternative<double>(value_); }
    bool is_number() const { return is_integer() || is_real(); }
    bool is_string() const { return std::holds_alternative<std::string>(value_); }
    bool is_array() const { return std::holds_alternative<Array>(value_); }
    bool is_object() const { return std::holds_alternative<Object>(value_); }

    // Call only after the matching is_...(); number() takes both kinds of number.
    bool boolean() const { return std::get<bool>(value_); }
    int64_t integer() const { return std::get<int64_t>(value_); }
    double number() const;
    const std::string& string() const { return std::get<std::string>(value_); }
    const Array& array() const { return std::get<Array>(value_); }
    const Object& object() const { return std::get<Object>(value_); }
    Array& array() { return std::get<Array>(value_); }
    Object& object() { return std::get<Object>(value_); }

    // The member with this key, or nullptr (also when this is not an object).
    const Json* find(std::string_view key) const;

    bool operator==(const Json&) const = default;

private:
    std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

struct JsonLimits {
    size_t max_bytes = size_t{256} << 20;
    int max_depth = 64;
};

// `source` names the text in errors (a file path). Throws Error{bad_file} with the byte offset.
// An integer that does not fit int64 becomes a real.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});
// The file names itself in errors.
Json read_json_file(const std::filesystem::path& path);

// One line without spaces; strings are escaped minimally (non-ASCII stays UTF-8). Reals print as
// the shortest text that reads back equal; infinities and NaN print as Python does.
std::string to_json_text(const Json& value);

// Its parts: a quoted string appended to `out`, and a real ("1.0", "1e-05", "-Infinity"), laid out
// as Python's repr does.
void append_json_string(std::string& out, std::string_view text);
std::string json_real_text(double value);

}  // namespace nemo
