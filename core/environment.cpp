#include "core/environment.h"

#include <cstdlib>

namespace nemo {

namespace {

std::string read_variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// As the XDG base directory specification has it: a relative folder does not count.
std::filesystem::path xdg_folder(const char* variable, const char* below_home) {
    const std::filesystem::path shared = read_variable(variable);
    if (shared.is_absolute()) return shared / "nemo";
    const std::filesystem::path home = read_variable("HOME");
    return home.is_absolute() ? home / below_home / "nemo" : std::filesystem::path();
}

std::filesystem::path data_folder() {
    const std::string own = read_variable("NEMO_DATA");
    return own.empty() ? xdg_folder("XDG_DATA_HOME", ".local/share") : std::filesystem::path(own);
}

}  // namespace

const Environment& environment() {
    static const Environment values = {
        .cpu_tier = read_variable("NEMO_CPU"),
        .data_folder = data_folder(),
        .cache_folder = xdg_folder("XDG_CACHE_HOME", ".cache"),
        .state_folder = xdg_folder("XDG_STATE_HOME", ".local/state"),
        .dumb_terminal = read_variable("TERM") == "dumb",
        .no_color = !read_variable("NO_COLOR").empty() || read_variable("TERM") == "dumb",
    };
    return values;
}

}  // namespace nemo
