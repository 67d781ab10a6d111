// What a conversion will write, decided and checked before the first byte is written: every tensor
// with its source and its number format, and the metadata.
//
// Formats: every matrix (linear layers, experts, embeddings, head) gets the requested type, without
// exceptions per role, so that a file is what its type says. Small tensors that llama.cpp requires
// in F32 stay so, and a matrix whose rows are not whole blocks becomes F16, as llama.cpp does.
#pragma once

#include "convert/tensor_source.h"
#include "core/gguf.h"
#include "core/gguf_writer.h"
#include "core/tensor.h"
#include "models/inventory.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

// The types a file can be written in, for messages: "F32, F16, ...".
std::string output_type_names();
// Case-insensitive; nullopt if there is no such type or it cannot be written.
std::optional<DType> output_type_from_name(std::string_view name);

struct PlannedTensor {
    TensorSpec spec;
    DType dtype;  // in the file
    TensorSource source;

    GgufTensorInfo info() const { return {spec.name, dtype, spec.dims, spec.n_dims}; }
};

struct ConversionPlan {
    SafetensorsSet weights;  // what the sources point into
    GgufMetadata metadata;
    std::vector<PlannedTensor> tensors;  // in file order
    std::vector<std::string> warnings;   // one line each

    std::vector<GgufTensorInfo> tensor_infos() const;
};

// Reads and checks a Hugging Face checkpoint directory: config.json, safetensors, tokenizer files,
// generation_config.json. Weights are not read yet, except for FP8 scales. Throws Error{bad_file}.
ConversionPlan make_plan(const std::filesystem::path& directory, DType type);

// A line per tensor: name, shape, source and target format, bytes; then the totals.
std::string plan_table(const ConversionPlan& plan);

}  // namespace nemo
