#include "core/memory_info.h"

#include "tests/temp_folder.h"

#include <doctest/doctest.h>

using namespace nemo;

TEST_CASE("available memory: what the machine has, within the limits of all control groups") {
    const TempFolder folder;
    const std::filesystem::path proc = folder / "proc";
    const std::filesystem::path groups = folder / "groups";
    const auto available = [&] { return available_memory(proc, groups); };
    CHECK(available() == 0);
    CHECK(available_memory() > 0);

    std::filesystem::create_directories(proc / "self");
    std::filesystem::create_directories(groups / "user" / "app");
    write_file(proc / "meminfo", "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nBuffers: 1 kB\n");
    CHECK(available() == 5000 * 1024);
    write_file(proc / "self" / "cgroup", "1:name=systemd:/x\n0::/user/app\n");
    CHECK(available() == 5000 * 1024);

    const auto limit = [&](const std::filesystem::path& group, const char* most, const char* used) {
        write_file(group / "memory.max", most);
        write_file(group / "memory.current", used);
    };
    limit(groups / "user" / "app", "max\n", "700000\n");
    CHECK(available() == 5000 * 1024);
    limit(groups / "user" / "app", "1000000\n", "700000\n");
    CHECK(available() == 300'000);
    // Pages of files can be dropped.
    write_file(groups / "user" / "app" / "memory.stat",
               "anon 1\ninactive_file 150000\nactive_file 50000\nfile 900000\n");
    CHECK(available() == 500'000);
    limit(groups / "user", "400000\n", "300000\n");
    CHECK(available() == 100'000);
    limit(groups, "60000\n", "1\n");
    CHECK(available() == 59'999);
    // More in use than allowed: as good as nothing, which is not "unknown".
    limit(groups, "60000\n", "70000\n");
    CHECK(available() == 1);
}
