// RapidJSON's iterative SAX parser does the syntax; the handler here builds the tree and enforces
// the limits, so neither the depth nor the size of a hostile text decides about our stack.
#include "core/json.h"

#include "core/error.h"
#include "core/mapped_file.h"

// What the parser asserts does not hold for every text: it aborts at "NaNe5" otherwise.
namespace {
struct BrokenAssertion {};
}  // namespace
#define RAPIDJSON_ASSERT(condition)                \
    do {                                           \
        if (!(condition)) throw BrokenAssertion(); \
    } while (false)
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace nemo {
namespace {

// Builds the value bottom-up: open containers wait on a stack until their closing bracket.
class JsonBuilder {
public:
    JsonBuilder(int max_depth, const rapidjson::MemoryStream& stream)
        : max_depth_(max_depth), stream_(stream) {}

    bool Null() { return add(Json()); }
    bool Bool(bool value) { return add(Json(value)); }
    bool Int(int value) { return add(Json(value)); }
    bool Uint(unsigned value) { return add(Json(int64_t{value})); }
    bool Int64(int64_t value) { return add(Json(value)); }
    bool Uint64(uint64_t value) {
        if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
            return add(Json(static_cast<double>(value)));
        }
        return add(Json(static_cast<int64_t>(value)));
    }
    bool Double(double value) {
        if (!continues_a_word()) return add(Json(value));
        problem_ = "Invalid value.";
        return false;
    }
    bool RawNumber(const char*, rapidjson::SizeType, bool) { return false; }
    bool String(const char* text, rapidjson::SizeType n_bytes, bool) {
        return add(Json(std::string(text, n_bytes)));
    }
    bool Key(const char* text, rapidjson::SizeType n_bytes, bool) {
        open_.back().keys.emplace_back(text, n_bytes);
        return true;
    }
    bool StartObject() { return open(); }
    bool StartArray() { return open(); }
    bool EndArray(rapidjson::SizeType) {
        Json::Array array = std::move(open_.back().values);
        open_.pop_back();
        return add(Json(std::move(array)));
    }
    bool EndObject(rapidjson::SizeType) {
        Container container = std::move(open_.back());
        open_.pop_back();
        if (!check_unique(container.keys)) return false;
        Json::Object object;
        object.reserve(container.keys.size());
        for (size_t i = 0; i < container.keys.size(); ++i) {
            object.emplace_back(std::move(container.keys[i]), std::move(container.values[i]));
        }
        return add(Json(std::move(object)));
    }

    Json take() { return std::move(root_); }
    // Why the handler stopped the parser; empty if it did not.
    const std::string& problem() const { return problem_; }

private:
    struct Container {
        std::vector<std::string> keys;  // objects only
        Json::Array values;
    };

    bool open() {
        if (open_.size() >= static_cast<size_t>(max_depth_)) {
            problem_ = fmt::format("nested deeper than {} levels", max_depth_);
            return false;
        }
        open_.emplace_back();
        return true;
    }

    // The parser takes ".5" behind NaN or Infinity for a part of the number. It stands at its end.
    bool continues_a_word() const {
        const char* at = stream_.src_;
        constexpr std::string_view kInNumbers = "0123456789+-.eE";
        while (at > stream_.begin_ && kInNumbers.find(at[-1]) != std::string_view::npos) --at;
        const bool has_number = at < stream_.src_;
        return has_number && at > stream_.begin_ &&
               std::isalpha(static_cast<unsigned char>(at[-1])) != 0;
    }

    bool add(Json value) {
        if (open_.empty()) {
            root_ = std::move(value);
        } else {
            open_.back().values.push_back(std::move(value));
        }
        return true;
    }

    // Sorting rather than hashing: no choice of keys makes it slow.
    bool check_unique(const std::vector<std::string>& keys) {
        std::vector<std::string_view> sorted(keys.begin(), keys.end());
        std::sort(sorted.begin(), sorted.end());
        const auto twin = std::adjacent_find(sorted.begin(), sorted.end());
        if (twin == sorted.end()) return true;
        problem_ = fmt::format("duplicate key \"{}\" in the object that ends here", *twin);
        return false;
    }

    int max_depth_;
    const rapidjson::MemoryStream& stream_;
    std::vector<Container> open_;
    Json root_;
    std::string problem_;
};

void append_json(std::string& out, const Json& value) {
    if (value.is_null()) {
        out += "null";
    } else if (value.is_bool()) {
        out += value.boolean() ? "true" : "false";
    } else if (value.is_integer()) {
        out += std::to_string(value.integer());
    } else if (value.is_real()) {
        out += json_real_text(value.number());
    } else if (value.is_string()) {
        append_json_string(out, value.string());
    } else if (value.is_array()) {
        out.push_back('[');
        for (const Json& element : value.array()) {
            if (&element != value.array().data()) out.push_back(',');
            append_json(out, element);
        }
        out.push_back(']');
    } else {
        out.push_back('{');
        for (const Json::Member& member : value.object()) {
            if (&member != value.object().data()) out.push_back(',');
            append_json_string(out, member.first);
            out.push_back(':');
            append_json(out, member.second);
        }
        out.push_back('}');
    }
}

}  // namespace

double Json::number() const {
    return is_integer() ? static_cast<double>(integer()) : std::get<double>(value_);
}

const Json* Json::find(std::string_view key) const {
    if (!is_object()) return nullptr;
    for (const Member& member : object()) {
        if (member.first == key) return &member.second;
    }
    return nullptr;
}

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
    if (text.size() > limits.max_bytes) {
        fail(ErrorCode::bad_file, "{}: JSON text has {} bytes, more than the limit of {}", source,
             text.size(), limits.max_bytes);
    }
    constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseNanAndInfFlag |
                                rapidjson::kParseValidateEncodingFlag |
                                rapidjson::kParseFullPrecisionFlag;
    rapidjson::MemoryStream stream(text.data(), text.size());
    rapidjson::Reader reader;
    JsonBuilder builder(limits.max_depth, stream);
    rapidjson::ParseResult result;
    try {
        result = reader.Parse<kFlags>(stream, builder);
    } catch (const BrokenAssertion&) {
        result.Set(rapidjson::kParseErrorValueInvalid, stream.Tell());
    }
    if (!result) {
        // After a refusal by the handler the parser reports where it stood then.
        const std::string reason = builder.problem().empty()
                                       ? std::string(rapidjson::GetParseError_En(result.Code()))
                                       : builder.problem();
        fail(ErrorCode::bad_file, "{}: byte {}: invalid JSON: {}", source, result.Offset(), reason);
    }
    // The parser takes a NUL byte for the end of the text.
    if (stream.Tell() < text.size()) {
        fail(ErrorCode::bad_file, "{}: byte {}: invalid JSON: NUL byte after the value", source,
             stream.Tell());
    }
    return builder.take();
}

std::string json_real_text(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    char buffer[64] = {};
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::abs(value),
                                   std::chars_format::scientific)
                         .ptr;
    const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));  // d.ddde[+-]xx
    const size_t e = shortest.find('e');
    std::string digits(1, shortest[0]);
    if (e > 2) digits += shortest.substr(2, e - 2);
    const int exponent = std::atoi(buffer + e + 1);

    std::string text(std::signbit(value) ? "-" : "");
    if (exponent < -4 || exponent >= 16) {
        text += digits[0];
        if (digits.size() > 1) text += "." + digits.substr(1);
        return text + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
    }
    if (exponent < 0)
        return text + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    const size_t n_whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() <= n_whole)
        return text + digits + std::string(n_whole - digits.size(), '0') + ".0";
    return text + digits.substr(0, n_whole) + "." + digits.substr(n_whole);
}

void append_json_string(std::string& out, std::string_view text) {
    out.push_back('"');
    for (const char c : text) {
        switch (c) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\r':
                out += "\\r";
                break;
            case '\t':
                out += "\\t";
                break;
            case '\f':
                out += "\\f";
                break;
            case '\b':
                out += "\\b";
                break;
            default:
                if (static_cast<uint8_t>(c) < 0x20) {
                    out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
                } else {
                    out.push_back(c);
                }
        }
    }
    out.push_back('"');
}

Json read_json_file(const std::filesystem::path& path) {
    const MappedFile file = MappedFile::open(path);
    return parse_json(file.text(), file.path());
}

std::string to_json_text(const Json& value) {
    std::string text;
    append_json(text, value);
    return text;
}

}  // namespace nemo
