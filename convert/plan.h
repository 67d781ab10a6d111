// What a conversion will write, decided and checked before the first byte is written: every tensor
// with its source and its number format, and the metadata.
//
// Formats: a single type goes to every matrix (linear layers, experts, embeddings, head), a mix
// gives them different ones (convert/type_mix.h). Small tensors that llama.cpp requires in F32 stay
// so. A matrix whose rows are not whole blocks gets another format, as in llama.cpp, unless
// convert/type_choice.h finds a better one afterwards; where that is F16 there is a warning.
#pragma once

#include "convert/tensor_source.h"
#include "convert/type_mix.h"
#include "convert/weight_source.h"
#include "core/gguf.h"
#include "core/gguf_writer.h"
#include "core/tensor.h"
#include "models/config.h"
#include "models/inventory.h"
#include "quant/importance.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

// Whether the file's type decides in which format a tensor is.
inline bool is_encoded(const TensorSpec& spec) {
    return !spec.always_f32 && spec.role != TensorRole::other;
}

struct PlannedTensor {
    TensorSpec spec;
    DType dtype;  // in the file
    WeightSourcePtr source;
    // What the type asks for where rows are no whole blocks of it, and `dtype` stands in.
    std::optional<DType> wanted;
    // How strongly each column is used; nullptr: not known. Belongs to the plan's importance.
    const TensorImportance* importance = nullptr;

    GgufTensorInfo info() const { return {spec.name, dtype, spec.dims, spec.n_dims}; }
    // Of the columns of row `row`, counted over all matrices: [dims[0]], or nullptr.
    const float* importance_of_row(int64_t row) const;
};

// One file of the result: tensors [first_tensor, first_tensor + n_tensors) of the plan, and the
// keys of that file. The first file has all keys; with several files each says which of how many it
// is.
struct PlannedPart {
    GgufMetadata metadata;
    size_t first_tensor = 0;
    size_t n_tensors = 0;
};

struct ConversionPlan {
    SafetensorsSet weights;                          // what the sources point into
    std::vector<std::filesystem::path> input_files;  // none of them can be the target
    // Of the result; none if it is of an architecture that nemo does not know.
    std::optional<ModelConfig> config;
    GgufMetadata metadata;
    std::vector<PlannedTensor> tensors;  // in file order
    std::shared_ptr<const Importance> importance;
    std::vector<std::string> warnings;  // one line each
    std::vector<std::string> notes;     // what was decided about types, one line each
    uint64_t max_part_bytes = 0;        // of each file the result is split into; 0: one file

    int64_t n_weights() const;
    uint64_t n_tensor_bytes() const;  // in the file
    double bits_per_weight() const;
    std::vector<GgufTensorInfo> tensor_infos() const;
    std::vector<GgufTensorInfo> tensor_infos(const PlannedPart& part) const;
};

// What --type means for a checkpoint if it is not given.
inline constexpr DType kDefaultType = DType::q8_0;

// Whether a multi-token prediction head of the input becomes part of the file.
enum class PredictionHead { keep, leave_out };

// Reads and checks a Hugging Face checkpoint directory (config.json, safetensors, tokenizer files,
// generation_config.json) or a GGUF file, also one in several parts. Without a type the tensors of
// a GGUF file keep theirs, and it may be of any architecture. Of the weights only what a quantizer
// left beside them is read: FP8 scales of rows and matrices, NVFP4 factors. Throws Error{bad_file}.
ConversionPlan make_plan(const std::filesystem::path& input, const std::optional<OutputType>& type,
                         PredictionHead head = PredictionHead::keep);
// With this format for every matrix.
ConversionPlan make_plan(const std::filesystem::path& input, DType type);

// The encoders minimise the error weighted by `importance`, and the file says so
// (quantize.imatrix.*). Tensors it lacks are encoded without weights; a note counts them. Throws
// Error{bad_file} if it belongs to another model.
void use_importance(ConversionPlan& plan, std::shared_ptr<const Importance> importance);

// At least one; every tensor is in one of them, in order. Throws Error{usage} if a single tensor
// makes a file larger than max_part_bytes.
std::vector<PlannedPart> planned_parts(const ConversionPlan& plan);

// Where part `index` (from 0) of `n_parts` goes: `target` itself if it is the only one, otherwise
// NAME-00001-of-00003.gguf beside it.
std::filesystem::path part_path(const std::filesystem::path& target, size_t index, size_t n_parts);

}  // namespace nemo
