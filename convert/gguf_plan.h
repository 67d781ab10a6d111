// The plan of a GGUF file made from another one; see convert/plan.h.
#pragma once

#include "convert/plan.h"

#include <filesystem>
#include <optional>

namespace nemo {

// Without a type every tensor is copied as it is. Throws Error{bad_file}, also if the file's
// architecture is unknown and there is a type, or a prediction head to be left out.
ConversionPlan make_gguf_plan(const std::filesystem::path& path,
                              const std::optional<OutputType>& type, PredictionHead head);

}  // namespace nemo
