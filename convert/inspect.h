// What a GGUF file holds, for people and for programs: metadata and tensors, without judging them.
#pragma once

#include "core/model_file.h"

#include <string>

namespace nemo {

// Long arrays and texts are cut short; harmless to a terminal whatever the file contains.
std::string inspect_text(const ModelFile& file);

// One JSON object: file, n_bytes, metadata {key: {type, value}}, tensors [{name, type, dims,
// n_bytes}]. Everything, at full length. Invalid UTF-8 becomes U+FFFD.
std::string inspect_json(const ModelFile& file);

}  // namespace nemo
