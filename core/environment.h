// Every environment variable nemo reads, in one table. Programs read it once at start; libraries
// take what they need as arguments or from here, never from getenv.
//
// NEMO_CPU=scalar|avx2|avx512   forces an instruction tier (default: the best the processor has)
// NEMO_DATA=FOLDER              where chats are kept (default: $XDG_DATA_HOME/nemo, which is
//                               usually ~/.local/share/nemo)
// XDG_CACHE_HOME                stored states, which can be made again, are in its folder nemo
//                               (default: ~/.cache)
// XDG_STATE_HOME                the history of typed lines is in its folder nemo
//                               (default: ~/.local/state)
// TERM=dumb, NO_COLOR           no escape sequences on a terminal, or none for looks
#pragma once

#include <filesystem>
#include <string>

namespace nemo {

struct Environment {
    std::string cpu_tier;  // empty: not set
    // Empty: there is not even a home.
    std::filesystem::path data_folder;
    std::filesystem::path cache_folder;
    std::filesystem::path state_folder;
    bool dumb_terminal = false;  // knows no escape sequences at all
    bool no_color = false;
};

const Environment& environment();

}  // namespace nemo
