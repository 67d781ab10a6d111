// What llama.cpp cannot load of a model that nemo can: said before the file is written, so that
// nobody finds out afterwards.
#pragma once

#include "models/config.h"

#include <string>
#include <vector>

namespace nemo {

// One sentence each; empty: it loads the file.
std::vector<std::string> llama_cpp_limits(const ModelConfig& config);

}  // namespace nemo
