// Which tensor gets which number format for the names that --type knows: single formats, and the
// mixes that llama.cpp's quantizer made common.
//
// The mixes mean what they mean there, so that a file is what users of the name expect: the head
// (or a tied embedding table) gets Q6_K, attention values and down projections more bits than the
// rest in some layers, and where rows are not multiples of 256 the nearest format with blocks of 32
// stands in. One exception: llama.cpp's MXFP4 is for experts alone and leaves a model without
// experts at Q8_0; here the layers of such a model become MXFP4. Where readers do not apply the
// factors of NVFP4 (the embedding table, latent projections), IQ4_NL of the same size stands in.
#pragma once

#include "core/tensor.h"
#include "models/config.h"
#include "models/inventory.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

enum class TypeRule {
    stored,   // what the input has, where a file can have it; the base format elsewhere
    uniform,  // every matrix gets the base format
    q6_k,     // Q6_K, Q5_K_S: nothing but the head differs
    more_bits,
    q4_k_s,
    q3_k_m,
    q2_k,
    iq4,
    mxfp4,
};

struct OutputType {
    std::string_view name;
    DType base;
    uint32_t file_type;  // llama.cpp's number for general.file_type; AUTO: depends
    TypeRule rule;
};

// For messages: "F32, F16, ...".
std::string output_type_names();
// Case-insensitive; nullopt if there is no such type.
std::optional<OutputType> output_type_from_name(std::string_view name);
// The format itself, for every matrix.
OutputType uniform_output_type(DType dtype);

struct TensorType {
    DType wanted;  // what the type asks for
    DType dtype;   // the same, or what stands in because rows are no whole blocks of it
};

// One per tensor of tensor_inventory(config).
std::vector<TensorType> choose_types(const ModelConfig& config,
                                     const std::vector<TensorSpec>& specs, const OutputType& type);

}  // namespace nemo
