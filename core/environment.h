// Every environment variable nemo reads, in one table. Programs read it once at start; libraries
// take what they need as arguments or from here, never from getenv.
//
// NEMO_CPU=scalar|avx2|avx512   forces an instruction tier (default: the best the processor has)
// NEMO_DATA=FOLDER              where chats are kept (default: $XDG_DATA_HOME/nemo, which is
// usually
//                               ~/.local/share/nemo)
#pragma once

#include <filesystem>
#include <string>

namespace nemo {

struct Environment {
    std::string cpu_tier;               // empty: not set
    std::filesystem::path data_folder;  // empty: there is not even a home
};

const Environment& environment();

}  // namespace nemo
