// Reads a Hugging Face config.json into a ModelConfig.
//
// Configurations come in several spellings (the hub's, native transformers', older
// remote code's); all are accepted, and two spellings of one field that disagree are refused. What
// the model code cannot do (biases, other activations, a clamp on the time step) is refused here,
// by name, rather than ignored.
#pragma once

#include "core/json.h"
#include "models/config.h"

#include <string>

namespace nemo {

// `source` names the file in errors. Throws Error{bad_file} naming file, field and value.
// Without `prediction_head` the fields of a multi-token prediction head are not looked at, and the
// configuration has no prediction blocks.
ModelConfig config_from_hf(const Json& root, const std::string& source,
                           bool prediction_head = false);

// Whether the configuration says that the checkpoint has a multi-token prediction head.
bool announces_prediction_head(const Json& root);

}  // namespace nemo
