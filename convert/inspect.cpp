#include "convert/inspect.h"

#include "core/console.h"
#include "core/json.h"
#include "core/utf8.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

namespace nemo {

namespace {

constexpr size_t kShownItems = 6;
constexpr size_t kShownBytes = 120;  // of a text

Json json_of(int64_t value) {
    return value;
}
Json json_of(double value) {
    return value;
}
Json json_of(bool value) {
    return value;
}
Json json_of(const std::string& value) {
    return sanitize_utf8(value);
}

template <class Item>
Json json_of(const std::vector<Item>& items) {
    Json::Array array;
    array.reserve(items.size());
    for (const Item& item : items) array.push_back(json_of(item));
    return array;
}

Json json_of(const std::vector<bool>& items) {
    Json::Array array;
    array.reserve(items.size());
    for (const bool item : items) array.push_back(json_of(item));
    return array;
}

// The file's f32 are kept as double; printed as such, 1e-05 would be 9.999999747378752e-06.
std::string real_text(GgufType type, double value) {
    return type == GgufType::f32 ? fmt::format("{}", static_cast<float>(value))
                                 : fmt::format("{}", value);
}

std::string short_text(GgufType, int64_t value) {
    return std::to_string(value);
}
std::string short_text(GgufType type, double value) {
    return real_text(type, value);
}
std::string short_text(GgufType, bool value) {
    return value ? "true" : "false";
}
std::string short_text(GgufType, const std::string& value) {
    if (value.size() <= kShownBytes) return to_json_text(json_of(value));
    std::string start = value.substr(0, kShownBytes);
    start.resize(start.size() - incomplete_utf8_tail(start));
    return fmt::format("{}... ({} bytes)", to_json_text(json_of(start)), value.size());
}

template <class Items>
std::string short_list(GgufType type, const Items& items) {
    std::string text = "[";
    const size_t n_shown = std::min(items.size(), kShownItems);
    for (size_t i = 0; i < n_shown; ++i) text += (i ? ", " : "") + short_text(type, items[i]);
    return text + (n_shown < items.size() ? ", ...]" : "]");
}

struct ShortText {
    GgufType type;

    template <class Scalar>
    std::string operator()(const Scalar& value) const {
        return short_text(type, value);
    }
    template <class Item>
    std::string operator()(const std::vector<Item>& items) const {
        return short_list(type, items);
    }
};

std::string type_text(const GgufValue& value) {
    if (!value.is_array) return gguf_type_name(value.type);
    const size_t n = std::visit(
        [](const auto& held) -> size_t {
            if constexpr (requires { held.begin(); })
                return held.size();
            else
                return 1;
        },
        value.value);
    return fmt::format("{}[{}]", gguf_type_name(value.type), n);
}

// "44 tensors, 4870984 weights, 8.573 bits per weight: F32 26, Q8_0 18".
std::string summary(const ModelFile& file) {
    std::map<std::string_view, int64_t> n_of_type;
    double n_weights = 0;
    double n_bytes = 0;
    for (const TensorView& tensor : file.tensors()) {
        ++n_of_type[dtype_info(tensor.dtype).name];
        n_weights += static_cast<double>(tensor.n_elements());
        n_bytes += static_cast<double>(tensor.n_bytes());
    }
    std::string text =
        fmt::format("{} tensors, {:.0f} weights, {:.3f} bits per weight:", file.tensors().size(),
                    n_weights, n_weights > 0 ? 8.0 * n_bytes / n_weights : 0.0);
    for (const auto& [type, n] : n_of_type)
        text += fmt::format("{} {} {}", text.back() == ':' ? "" : ",", type, n);
    return text;
}

}  // namespace

std::string inspect_text(const ModelFile& file) {
    const auto& entries = file.metadata().entries();
    std::string text = fmt::format("{}: {} bytes, {} keys, {} tensors\n\n", file.path(),
                                   file.n_file_bytes(), entries.size(), file.tensors().size());
    for (const auto& [key, value] : entries)
        text += fmt::format("{:<44} {:<14} {}\n", terminal_safe_line(key), type_text(value),
                            std::visit(ShortText{value.type}, value.value));
    text += fmt::format("\n{:<32} {:<8} {:<22} {:>14}\n", "tensor", "type", "dims", "bytes");
    for (const TensorView& tensor : file.tensors())
        text +=
            fmt::format("{:<32} {:<8} {:<22} {:>14}\n", terminal_safe_line(tensor.name),
                        dtype_info(tensor.dtype).name, dims_text(tensor.dims), tensor.n_bytes());
    text += summary(file) + "\n";
    return terminal_safe(text);
}

std::string inspect_json(const ModelFile& file) {
    Json::Object metadata;
    for (const auto& [key, value] : file.metadata().entries())
        metadata.emplace_back(
            key, Json::Object{{"type", Json(gguf_type_name(value.type))},
                              {"value", std::visit([](const auto& held) { return json_of(held); },
                                                   value.value)}});
    Json::Array tensors;
    for (const TensorView& tensor : file.tensors()) {
        size_t n_dims = tensor.dims.size();
        while (n_dims > 1 && tensor.dims[n_dims - 1] == 1) --n_dims;
        Json::Array dims(tensor.dims.begin(), tensor.dims.begin() + static_cast<ptrdiff_t>(n_dims));
        tensors.push_back(Json::Object{{"name", Json(tensor.name)},
                                       {"type", Json(std::string(dtype_info(tensor.dtype).name))},
                                       {"dims", Json(std::move(dims))},
                                       {"n_bytes", Json(tensor.n_bytes())}});
    }
    return to_json_text(Json::Object{{"file", Json(sanitize_utf8(file.path()))},
                                     {"n_bytes", Json(static_cast<int64_t>(file.n_file_bytes()))},
                                     {"metadata", Json(std::move(metadata))},
                                     {"tensors", Json(std::move(tensors))}}) +
           "\n";
}

}  // namespace nemo
