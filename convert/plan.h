// What a conversion will write, decided and checked before the first byte is written: every tensor
// with its source and its number format, and the metadata.
//
// Formats: a single type goes to every matrix (linear layers, experts, embeddings, head), a mix
// gives them different ones (convert/type_mix.h). Small tensors that llama.cpp requires in F32 stay
// so, and a matrix whose rows are not whole blocks gets another format, as in llama.cpp, with a
// warning.
#pragma once

#include "convert/tensor_source.h"
#include "convert/type_mix.h"
#include "core/gguf.h"
#include "core/gguf_writer.h"
#include "core/tensor.h"
#include "models/inventory.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

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
ConversionPlan make_plan(const std::filesystem::path& directory, const OutputType& type);
// With this format for every matrix.
ConversionPlan make_plan(const std::filesystem::path& directory, DType type);

// A line per tensor: name, shape, source and target format, bytes; then the totals.
std::string plan_table(const ConversionPlan& plan);

}  // namespace nemo
