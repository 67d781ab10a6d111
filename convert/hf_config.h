// Reads a Hugging Face config.json into a ModelConfig.
//
// Configurations come in several spellings (the hub's, native transformers', older
// remote code's); all are accepted, and two spellings of one field that disagree are refused. What
// the model code cannot do (biases, other activations, a clamp on the time step, per-layer block
// configurations) is refused here, by name, rather than ignored.
#pragma once

#include "core/json.h"
#include "models/config.h"

#include <string>

namespace nemo {

// `source` names the file in errors. Throws Error{bad_file} naming file, field and value.
ModelConfig config_from_hf(const Json& root, const std::string& source);

}  // namespace nemo
