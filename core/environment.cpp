#include "core/environment.h"

#include <cstdlib>

namespace nemo {

namespace {

std::string read_variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

}  // namespace

const Environment& environment() {
    static const Environment values = {.cpu_tier = read_variable("NEMO_CPU")};
    return values;
}

}  // namespace nemo
