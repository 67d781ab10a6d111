// GGUF metadata: typed key-value pairs, shared by the reader (model_file.h) and writer
// (gguf_writer.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace nemo {

// GGUF's type ids.
enum class GgufType : int32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
};

const char* gguf_type_name(GgufType type);

// One value. Integers of every width are kept as int64 (u64 above 2^63 is refused by the reader),
// f32 and f64 as double; `type` keeps the stored type. Arrays hold `type` elements.
struct GgufValue {
    GgufType type = GgufType::u32;
    bool is_array = false;
    std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                 std::vector<bool>, std::vector<std::string>>
        value;
};

// Ordered key-value pairs. The getters without default throw Error{bad_file} naming the source, the
// key and the types that disagree; those with default return it only if the key is absent.
class GgufMetadata {
public:
    explicit GgufMetadata(std::string source = "metadata") : source_(std::move(source)) {}

    const std::string& source() const { return source_; }
    const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }
    const GgufValue* find(std::string_view key) const;
    bool contains(std::string_view key) const { return find(key) != nullptr; }

    // Any integer type.
    int64_t get_integer(std::string_view key) const;
    int64_t get_integer(std::string_view key, int64_t fallback) const;
    // f32, f64 or any integer type.
    double get_real(std::string_view key) const;
    double get_real(std::string_view key, double fallback) const;
    bool get_bool(std::string_view key) const;
    bool get_bool(std::string_view key, bool fallback) const;
    const std::string& get_string(std::string_view key) const;
    std::string get_string(std::string_view key, std::string_view fallback) const;
    // Any integer element type.
    const std::vector<int64_t>& get_integers(std::string_view key) const;
    const std::vector<double>& get_reals(std::string_view key) const;
    const std::vector<std::string>& get_strings(std::string_view key) const;
    // A scalar that stands for all n values, or an array of exactly n.
    std::vector<int64_t> get_per_layer(std::string_view key, int64_t n) const;

    // Writers. A key that exists already is replaced in place.
    void set_u16(std::string_view key, uint16_t value);
    void set_u32(std::string_view key, uint32_t value);
    void set_i32(std::string_view key, int32_t value);
    void set_f32(std::string_view key, float value);
    void set_bool(std::string_view key, bool value);
    void set_string(std::string_view key, std::string value);
    void set_i32_array(std::string_view key, const std::vector<int32_t>& values);
    void set_u32_array(std::string_view key, const std::vector<uint32_t>& values);
    void set_f32_array(std::string_view key, const std::vector<float>& values);
    void set_string_array(std::string_view key, std::vector<std::string> values);
    void set(std::string_view key, GgufValue value);
    // The keys for which `unwanted` is true.
    void erase_if(const std::function<bool(std::string_view)>& unwanted);
    void erase(std::string_view key);

private:
    const GgufValue& require(std::string_view key) const;
    [[noreturn]] void wrong_type(std::string_view key, const GgufValue& value,
                                 const char* wanted) const;

    std::string source_;
    std::vector<std::pair<std::string, GgufValue>> entries_;
    std::unordered_map<std::string, size_t> index_;
};

}  // namespace nemo
