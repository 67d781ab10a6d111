#include "core/memory_info.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace nemo {

namespace {

namespace fs = std::filesystem;

// The number behind `key` in a file of lines "key number"; nullopt: there is none.
std::optional<int64_t> number_of(const fs::path& path, std::string_view key) {
    std::ifstream file(path);
    constexpr std::streamsize kLine = std::numeric_limits<std::streamsize>::max();
    for (std::string word; file >> word; file.ignore(kLine, '\n')) {
        int64_t value = 0;
        if (word == key && file >> value) return value;
    }
    return std::nullopt;
}

// "max" is no number: no limit.
std::optional<int64_t> number_in(const fs::path& path) {
    std::ifstream file(path);
    int64_t value = 0;
    return file >> value ? std::optional(value) : std::nullopt;
}

// Pages of files count as used, but make room: those of a mapped model, for instance.
std::optional<int64_t> left_in_group(const fs::path& group) {
    const std::optional<int64_t> limit = number_in(group / "memory.max");
    const std::optional<int64_t> used = number_in(group / "memory.current");
    if (!limit || !used) return std::nullopt;
    const int64_t pages_of_files = number_of(group / "memory.stat", "inactive_file").value_or(0) +
                                   number_of(group / "memory.stat", "active_file").value_or(0);
    return std::max<int64_t>(*limit - std::max<int64_t>(*used - pages_of_files, 0), 1);
}

// "0::/path" below the root of the groups; in a container often just "0::/".
fs::path own_group(const fs::path& proc) {
    std::ifstream file(proc / "self" / "cgroup");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("0::/")) return line.substr(4);
    return {};
}

}  // namespace

int64_t available_memory(const fs::path& proc, const fs::path& cgroups) {
    int64_t n_bytes = number_of(proc / "meminfo", "MemAvailable:").value_or(0) * 1024;
    // The limits of the groups around ours hold too.
    fs::path group = cgroups;
    const auto apply = [&] {
        if (const std::optional<int64_t> left = left_in_group(group))
            n_bytes = n_bytes > 0 ? std::min(n_bytes, *left) : *left;
    };
    apply();
    for (const fs::path& name : own_group(proc)) {
        group /= name;
        apply();
    }
    return n_bytes;
}

}  // namespace nemo
