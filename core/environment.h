// Every environment variable nemo reads, in one table. Programs read it once at start; libraries
// take what they need as arguments or from here, never from getenv.
//
// NEMO_CPU=scalar|avx2|avx512   forces an instruction tier (default: the best the processor has)
#pragma once

#include <string>

namespace nemo {

struct Environment {
    std::string cpu_tier;  // empty: not set
};

const Environment& environment();

}  // namespace nemo
