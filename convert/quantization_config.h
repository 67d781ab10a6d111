// What a checkpoint says about its quantization: quantization_config in config.json, and ModelOpt's
// hf_quant_config.json. How a tensor is stored decides how it is read; this is for cross-checks and
// for the size of FP8 tiles. Lists of excluded modules are not checked: their patterns mean
// different things to different programs.
#pragma once

#include "convert/stored_tensor.h"
#include "core/json.h"

#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace nemo {

// Of one file.
struct QuantizationDeclaration {
    std::string source;  // the file's path
    std::set<StoredForm> forms;
    std::map<std::string, StoredForm> layers;        // by module: "backbone.layers.0.mixer.up_proj"
    std::optional<std::array<int64_t, 2>> fp8_tile;  // rows, columns
};

struct QuantizationConfig {
    std::vector<QuantizationDeclaration> declarations;  // empty: nothing is declared

    // The tile of FP8 weights and who declares it; nullptr if nobody does.
    const QuantizationDeclaration* fp8_tile_declaration() const;
    // Throws Error{bad_file} naming `source`, the tensor and the declaring file if the tensor
    // `name`, stored in this form, contradicts a declaration.
    void check(const std::string& name, StoredForm form, const std::string& source) const;
};

// Throws Error{bad_file} naming the method and the file if nothing here can read such weights.
QuantizationDeclaration quantization_declaration(const Json& value, const std::string& source);

QuantizationConfig read_quantization_config(const std::filesystem::path& directory);

}  // namespace nemo
