#include "core/residency.h"

#include "core/error.h"
#include "core/mapped_file.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

using namespace nemo;

namespace {

constexpr int64_t kMiB = 1 << 20;

// On the disk, and not in the page cache, where the file system allows it.
MappedFile cold_file(const std::filesystem::path& path, int64_t n_bytes) {
    write_file(path, std::string(static_cast<size_t>(n_bytes), 'x'));
    const int descriptor = ::open(path.c_str(), O_RDWR);
    ::fsync(descriptor);
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
    return MappedFile::open(path);
}

bool in_page_cache(const MappedFile& file) {
    std::vector<unsigned char> pages(file.bytes().size() / 4096);
    REQUIRE(::mincore(const_cast<std::byte*>(file.bytes().data()), file.bytes().size(),
                      pages.data()) == 0);
    return std::ranges::all_of(pages, [](unsigned char page) { return (page & 1) != 0; });
}

// kB, as the kernel counts it for this process.
int64_t status_value(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1));
    FAIL("no " << name);
    return 0;
}

}  // namespace

TEST_CASE("a file is read ahead in the background") {
    const TempFolder folder;
    const MappedFile file = cold_file(folder / "file", 8 * kMiB);
    // Again if the system was short of memory and let go of some of it.
    for (int attempt = 0; attempt < 3 && !in_page_cache(file); ++attempt) {
        const ReadAhead read_ahead({file.bytes()});
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (!in_page_cache(file) && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(in_page_cache(file));
}

TEST_CASE("files are read in and mapped, with progress, until told to stop") {
    const TempFolder folder;
    const MappedFile first = cold_file(folder / "first", 3 * kMiB);
    write_file(folder / "second", "");
    std::filesystem::resize_file(folder / "second", static_cast<uintmax_t>(70 * kMiB));
    const MappedFile second = MappedFile::open(folder / "second");
    const std::vector<MappedBytes> files = {first.bytes(), second.bytes()};
    std::vector<int64_t> progress;
    const int64_t n_mapped = status_value("RssFile") + status_value("RssShmem");
    read_in(files, [&](int64_t n_done) {
        progress.push_back(n_done);
        return true;
    });
    CHECK(progress == std::vector<int64_t>{3 * kMiB, 67 * kMiB, 73 * kMiB});
    CHECK(status_value("RssFile") + status_value("RssShmem") - n_mapped > 70 * 1024);

    progress.clear();
    read_in(files, [&](int64_t n_done) {
        progress.push_back(n_done);
        return false;
    });
    CHECK(progress.size() == 1);
}

TEST_CASE("locked files count as locked; a limit is named") {
    const TempFolder folder;
    const MappedFile file = cold_file(folder / "file", kMiB);
    const std::vector<MappedBytes> files = {file.bytes(), {}};
    // In a child: limits and users cannot be taken back. Root is above the limit.
    const auto status_of_child = [&](rlim_t limit) {
        const pid_t child = ::fork();
        if (child == 0) {
            const rlimit limits = {limit, limit};
            if (::setrlimit(RLIMIT_MEMLOCK, &limits) != 0) ::_exit(100);
            if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(101);
            try {
                lock_in_memory(files, "a model");
                ::_exit(status_value("VmLck") >= 1024 ? 0 : 102);
            } catch (const Error& error) {
                const std::string message = error.what();
                const bool clear = message.find("a model") == 0 &&
                                   message.find("1048576 bytes") != std::string::npos &&
                                   message.find("is 65536 bytes") != std::string::npos;
                ::_exit(clear ? static_cast<int>(error.code()) : 103);
            }
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 104;
    };
    CHECK(status_of_child(2 * kMiB) == 0);
    CHECK(status_of_child(65536) == static_cast<int>(ErrorCode::out_of_memory));
}
