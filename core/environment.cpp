#include "core/environment.h"

#include <cstdlib>

namespace nemo {

namespace {

std::string read_variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// As the XDG base directory specification has it: a relative folder does not count.
std::filesystem::path data_folder() {
    const std::string own = read_variable("NEMO_DATA");
    if (!own.empty()) return own;
    const std::filesystem::path shared = read_variable("XDG_DATA_HOME");
    if (shared.is_absolute()) return shared / "nemo";
    const std::filesystem::path home = read_variable("HOME");
    return home.is_absolute() ? home / ".local/share/nemo" : std::filesystem::path();
}

}  // namespace

const Environment& environment() {
    static const Environment values = {.cpu_tier = read_variable("NEMO_CPU"),
                                       .data_folder = data_folder()};
    return values;
}

}  // namespace nemo
