// What the machine has.
#pragma once

#include <cstdint>

namespace nemo {

// Bytes that programs can still take without swapping, as Linux estimates it; 0: unknown.
int64_t available_memory();

}  // namespace nemo
