// The version of the programs, from git.
#pragma once

namespace nemo {

extern const char* const kVersion;

}  // namespace nemo
