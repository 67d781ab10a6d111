#include "convert/quantization_config.h"

#include "core/error.h"

#include <algorithm>

namespace nemo {

namespace {

constexpr int64_t kMaxTile = 1 << 20;

const Json* find_value(const Json& object, const char* key) {
    const Json* value = object.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
}

std::string text_of(const Json& object, const char* key, const std::string& source) {
    const Json* value = find_value(object, key);
    if (value == nullptr) return "";
    if (!value->is_string())
        fail(ErrorCode::bad_file, "{}: {} is {}, expected a text", source, key,
             to_json_text(*value));
    return value->string();
}

[[noreturn]] void unsupported(const char* key, const std::string& value,
                              const std::string& source) {
    fail(ErrorCode::bad_file, "{}: {} {} is not supported; FP8, NVFP4 and MXFP4 are", source, key,
         value);
}

// Of ModelOpt's quant_algo ("FP8_PB_WO", "W4A16_NVFP4") or compressed-tensors' format
// ("nvfp4-pack-quantized").
StoredForm form_of_name(const std::string& name, const char* key, const std::string& source) {
    std::string upper = name;
    for (char& c : upper) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    const auto has = [&](const char* part) { return upper.find(part) != std::string::npos; };
    if (has("AWQ") || has("SVD")) unsupported(key, name, source);
    if (has("NVFP4")) return StoredForm::nvfp4;
    if (has("MXFP4")) return StoredForm::mxfp4;
    if (has("FP8")) return StoredForm::fp8;
    unsupported(key, name, source);
}

// {"num_bits": 4, "type": "float", "group_size": 16} of compressed-tensors.
StoredForm form_of_weights(const Json& weights, const std::string& source) {
    const auto is = [&](const char* key, const Json& wanted) {
        const Json* value = find_value(weights, key);
        return value != nullptr && *value == wanted;
    };
    if (is("type", "float") && is("num_bits", 8)) return StoredForm::fp8;
    if (is("type", "float") && is("num_bits", 4) && is("group_size", 16)) return StoredForm::nvfp4;
    if (is("type", "float") && is("num_bits", 4) && is("group_size", 32)) return StoredForm::mxfp4;
    unsupported("weights", to_json_text(weights), source);
}

void set_tile(const Json& value, const char* key, QuantizationDeclaration& declaration) {
    const auto is_size = [](const Json& size) {
        return size.is_integer() && size.integer() > 0 && size.integer() <= kMaxTile;
    };
    if (!value.is_array() || value.array().size() != 2 ||
        !std::ranges::all_of(value.array(), is_size))
        fail(ErrorCode::bad_file, "{}: {} is {}, expected two sizes", declaration.source, key,
             to_json_text(value));
    declaration.fp8_tile = {value.array()[0].integer(), value.array()[1].integer()};
}

// {"group_0": {"weights": {...}, "format": ..., "targets": [...]}, ...}.
void add_groups(const Json& groups, QuantizationDeclaration& declaration) {
    if (!groups.is_object())
        fail(ErrorCode::bad_file, "{}: config_groups is {}, expected an object", declaration.source,
             to_json_text(groups));
    for (const auto& [name, entry] : groups.object()) {
        const Json* weights = find_value(entry, "weights");
        if (weights == nullptr) continue;  // only activations are quantized
        const StoredForm form = form_of_weights(*weights, declaration.source);
        declaration.forms.insert(form);
        if (form != StoredForm::fp8) continue;
        const Json* tile = find_value(*weights, "block_structure");
        const Json* group = find_value(*weights, "group_size");
        if (tile != nullptr && tile->is_array())
            set_tile(*tile, "block_structure", declaration);
        else if (group != nullptr)
            set_tile(Json::Array{Json(1), *group}, "group_size", declaration);
    }
}

// {"backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"}, ...} of a mixed-precision model.
void add_layers(const Json& layers, QuantizationDeclaration& declaration) {
    if (!layers.is_object())
        fail(ErrorCode::bad_file, "{}: quantized_layers is {}, expected an object",
             declaration.source, to_json_text(layers));
    for (const auto& [name, layer] : layers.object()) {
        const std::string algorithm = text_of(layer, "quant_algo", declaration.source);
        if (algorithm.empty()) continue;
        const StoredForm form = form_of_name(algorithm, "quant_algo", declaration.source);
        declaration.layers.emplace(name, form);
        declaration.forms.insert(form);
    }
}

void add_method(const std::string& method, const Json& value,
                QuantizationDeclaration& declaration) {
    const std::string& source = declaration.source;
    if (method.empty() || method.starts_with("modelopt")) return;
    if (method == "compressed-tensors") {
        const std::string format = text_of(value, "format", source);
        if (format.empty() || format == "dense" || format == "mixed-precision") return;
        // "float-quantized" and "naive-quantized" leave it to the groups.
        if (format != "float-quantized" && format != "naive-quantized")
            declaration.forms.insert(form_of_name(format, "format", source));
        return;
    }
    declaration.forms.insert(form_of_name(method, "quant_method", source));
}

std::string forms_text(const std::set<StoredForm>& forms) {
    std::string text;
    for (const StoredForm form : forms)
        text += (text.empty() ? "" : ", ") + std::string(stored_form_name(form));
    return text;
}

std::string module_of(const std::string& tensor_name) {
    constexpr std::string_view kSuffix = ".weight";
    std::string module = tensor_name;
    if (module.ends_with(kSuffix)) module.resize(module.size() - kSuffix.size());
    return module;
}

}  // namespace

QuantizationDeclaration quantization_declaration(const Json& value, const std::string& source) {
    if (!value.is_object())
        fail(ErrorCode::bad_file, "{}: the quantization is {}, expected an object", source,
             to_json_text(value));
    QuantizationDeclaration declaration;
    declaration.source = source;
    add_method(text_of(value, "quant_method", source), value, declaration);
    const std::string algorithm = text_of(value, "quant_algo", source);
    if (!algorithm.empty() && algorithm != "MIXED_PRECISION")
        declaration.forms.insert(form_of_name(algorithm, "quant_algo", source));
    if (const Json* groups = find_value(value, "config_groups")) add_groups(*groups, declaration);
    if (const Json* layers = find_value(value, "quantized_layers"))
        add_layers(*layers, declaration);
    if (const Json* tile = find_value(value, "weight_block_size"))
        set_tile(*tile, "weight_block_size", declaration);
    return declaration;
}

const QuantizationDeclaration* QuantizationConfig::fp8_tile_declaration() const {
    for (const QuantizationDeclaration& declaration : declarations)
        if (declaration.fp8_tile) return &declaration;
    return nullptr;
}

void QuantizationConfig::check(const std::string& name, StoredForm form,
                               const std::string& source) const {
    for (const QuantizationDeclaration& declaration : declarations) {
        const auto layer = declaration.layers.find(module_of(name));
        if (layer != declaration.layers.end() && layer->second != form)
            fail(ErrorCode::bad_file, "{}: tensor {} is {}, but {} declares it as {}", source, name,
                 stored_form_name(form), declaration.source, stored_form_name(layer->second));
        if (form == StoredForm::plain || declaration.forms.empty() ||
            declaration.forms.contains(form))
            continue;
        fail(ErrorCode::bad_file, "{}: tensor {} is {}, but {} declares only {}", source, name,
             stored_form_name(form), declaration.source, forms_text(declaration.forms));
    }
}

QuantizationConfig read_quantization_config(const std::filesystem::path& directory) {
    QuantizationConfig config;
    const std::filesystem::path config_path = directory / "config.json";
    const Json root = read_json_file(config_path);
    const Json* wrapped = root.find("llm_config");
    for (const Json* object : {&root, wrapped}) {
        const Json* value =
            object == nullptr ? nullptr : find_value(*object, "quantization_config");
        if (value != nullptr)
            config.declarations.push_back(quantization_declaration(*value, config_path.string()));
    }
    const std::filesystem::path quant_path = directory / "hf_quant_config.json";
    if (std::filesystem::exists(quant_path)) {
        const Json quant_root = read_json_file(quant_path);
        if (const Json* value = find_value(quant_root, "quantization"))
            config.declarations.push_back(quantization_declaration(*value, quant_path.string()));
    }
    return config;
}

}  // namespace nemo
