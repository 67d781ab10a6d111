#include "core/gguf.h"

#include "core/error.h"

namespace nemo {

const char* gguf_type_name(GgufType type) {
    static const char* const kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
    return kNames[static_cast<int>(type)];
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
    const auto found = index_.find(std::string(key));
    return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const GgufValue& GgufMetadata::require(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) fail(ErrorCode::bad_file, "{}: key {} is missing", source_, key);
    return *value;
}

void GgufMetadata::wrong_type(std::string_view key, const GgufValue& value,
                              const char* wanted) const {
    fail(ErrorCode::bad_file, "{}: key {} is {}{}, but {} is needed", source_, key,
         value.is_array ? "an array of " : "of type ", gguf_type_name(value.type), wanted);
}

int64_t GgufMetadata::get_integer(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* number = std::get_if<int64_t>(&value.value);
    if (number == nullptr) wrong_type(key, value, "an integer");
    return *number;
}

int64_t GgufMetadata::get_integer(std::string_view key, int64_t fallback) const {
    return contains(key) ? get_integer(key) : fallback;
}

double GgufMetadata::get_real(std::string_view key) const {
    const GgufValue& value = require(key);
    if (const auto* number = std::get_if<double>(&value.value)) return *number;
    if (const auto* number = std::get_if<int64_t>(&value.value))
        return static_cast<double>(*number);
    wrong_type(key, value, "a number");
}

double GgufMetadata::get_real(std::string_view key, double fallback) const {
    return contains(key) ? get_real(key) : fallback;
}

bool GgufMetadata::get_bool(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* flag = std::get_if<bool>(&value.value);
    if (flag == nullptr) wrong_type(key, value, "bool");
    return *flag;
}

bool GgufMetadata::get_bool(std::string_view key, bool fallback) const {
    return contains(key) ? get_bool(key) : fallback;
}

const std::string& GgufMetadata::get_string(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* text = std::get_if<std::string>(&value.value);
    if (text == nullptr) wrong_type(key, value, "a string");
    return *text;
}

std::string GgufMetadata::get_string(std::string_view key, std::string_view fallback) const {
    return contains(key) ? get_string(key) : std::string(fallback);
}

const std::vector<int64_t>& GgufMetadata::get_integers(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* numbers = std::get_if<std::vector<int64_t>>(&value.value);
    if (numbers == nullptr) wrong_type(key, value, "an array of integers");
    return *numbers;
}

const std::vector<double>& GgufMetadata::get_reals(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* numbers = std::get_if<std::vector<double>>(&value.value);
    if (numbers == nullptr) wrong_type(key, value, "an array of floats");
    return *numbers;
}

const std::vector<std::string>& GgufMetadata::get_strings(std::string_view key) const {
    const GgufValue& value = require(key);
    const auto* texts = std::get_if<std::vector<std::string>>(&value.value);
    if (texts == nullptr) wrong_type(key, value, "an array of strings");
    return *texts;
}

std::vector<int64_t> GgufMetadata::get_per_layer(std::string_view key, int64_t n) const {
    const GgufValue& value = require(key);
    if (const auto* number = std::get_if<int64_t>(&value.value))
        return std::vector<int64_t>(static_cast<size_t>(n), *number);
    const std::vector<int64_t>& numbers = get_integers(key);
    if (static_cast<int64_t>(numbers.size()) != n)
        fail(ErrorCode::bad_file, "{}: key {} has {} entries, but the model has {} layers", source_,
             key, numbers.size(), n);
    return numbers;
}

void GgufMetadata::set(std::string_view key, GgufValue value) {
    const auto [position, is_new] = index_.try_emplace(std::string(key), entries_.size());
    if (is_new)
        entries_.emplace_back(std::string(key), std::move(value));
    else
        entries_[position->second].second = std::move(value);
}

void GgufMetadata::erase_if(const std::function<bool(std::string_view)>& unwanted) {
    std::erase_if(entries_, [&](const auto& entry) { return unwanted(entry.first); });
    index_.clear();
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
}

void GgufMetadata::erase(std::string_view key) {
    erase_if([&](std::string_view other) { return other == key; });
}

void GgufMetadata::set_u16(std::string_view key, uint16_t value) {
    set(key, {GgufType::u16, false, int64_t{value}});
}

void GgufMetadata::set_u32(std::string_view key, uint32_t value) {
    set(key, {GgufType::u32, false, int64_t{value}});
}

void GgufMetadata::set_i32(std::string_view key, int32_t value) {
    set(key, {GgufType::i32, false, int64_t{value}});
}

void GgufMetadata::set_f32(std::string_view key, float value) {
    set(key, {GgufType::f32, false, double{value}});
}

void GgufMetadata::set_bool(std::string_view key, bool value) {
    set(key, {GgufType::boolean, false, value});
}

void GgufMetadata::set_string(std::string_view key, std::string value) {
    set(key, {GgufType::string, false, std::move(value)});
}

void GgufMetadata::set_i32_array(std::string_view key, const std::vector<int32_t>& values) {
    set(key, {GgufType::i32, true, std::vector<int64_t>(values.begin(), values.end())});
}

void GgufMetadata::set_u32_array(std::string_view key, const std::vector<uint32_t>& values) {
    set(key, {GgufType::u32, true, std::vector<int64_t>(values.begin(), values.end())});
}

void GgufMetadata::set_f32_array(std::string_view key, const std::vector<float>& values) {
    set(key, {GgufType::f32, true, std::vector<double>(values.begin(), values.end())});
}

void GgufMetadata::set_string_array(std::string_view key, std::vector<std::string> values) {
    set(key, {GgufType::string, true, std::move(values)});
}

}  // namespace nemo
