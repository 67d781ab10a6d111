#include "core/memory_info.h"

#include <fstream>
#include <string>

namespace nemo {

int64_t available_memory() {
    std::ifstream file("/proc/meminfo");
    for (std::string key; file >> key; file.ignore(256, '\n')) {
        int64_t n_kib = 0;
        if (key == "MemAvailable:" && file >> n_kib) return n_kib * 1024;
    }
    return 0;
}

}  // namespace nemo
