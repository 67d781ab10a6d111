// What the machine has.
#pragma once

#include <cstdint>
#include <filesystem>

namespace nemo {

// Bytes that programs can still take without swapping, as Linux estimates it, and no more than the
// limits of our control groups (cgroup v2) leave; 0: unknown. The folders are arguments for tests.
int64_t available_memory(const std::filesystem::path& proc = "/proc",
                         const std::filesystem::path& cgroups = "/sys/fs/cgroup");

}  // namespace nemo
