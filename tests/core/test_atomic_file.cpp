// Files that appear whole or not at all, and what a killed program leaves behind.
#include "core/atomic_file.h"

#include "core/error.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>

using namespace nemo;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

uint64_t n_disk_bytes(const std::filesystem::path& path) {
    struct stat status = {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
}

// The status of a child process that runs `body`.
template <class Body>
int status_of_child(const Body& body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        try {
            body();
        } catch (const Error& error) {
            ::_exit(static_cast<int>(error.code()));
        }
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status;
}

}  // namespace

TEST_CASE("a file appears with commit(), replaces the old one, or leaves nothing") {
    const TempFolder folder;
    const auto target = folder / "out";
    write_file(target, "old");
    {
        AtomicFile file(target);
        file.write("new");
        CHECK(read_file(target) == "old");
    }
    CHECK(names_in(folder / "") == std::vector<std::string>{"out"});
    AtomicFile file(target);
    file.write("new");
    file.commit();
    CHECK(read_file(target) == "new");
    CHECK(names_in(folder / "") == std::vector<std::string>{"out"});
    CHECK_THROWS_AS(AtomicFile(folder / "no/such/folder"), Error);
}

TEST_CASE("a target that is no regular file is refused and stays what it is") {
    const TempFolder folder;
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    std::filesystem::create_directory(folder / "folder");
    std::filesystem::create_symlink(folder / "pipe", folder / "link");
    const std::vector<std::string> names = names_in(folder / "");
    for (const char* name : {"pipe", "folder", "link"})
        CHECK_THROWS_AS(AtomicFile(folder / name), Error);
    CHECK(names_in(folder / "") == names);
}

TEST_CASE("the file that is read is not written, under whatever name") {
    const TempFolder folder;
    write_file(folder / "model", "weights");
    std::filesystem::create_symlink(folder / "model", folder / "link");
    CHECK_THROWS_AS(refuse_to_replace(folder / "link", folder / "model"), Error);
    CHECK_THROWS_AS(refuse_to_replace(folder / "model", folder / "model"), Error);
    refuse_to_replace(folder / "new", folder / "model");
    refuse_to_replace(folder / "new", folder / "new");
}

TEST_CASE("bytes written before can be replaced, flushed or not") {
    const TempFolder folder;
    AtomicFile file(folder / "out");
    const std::string large(3'000'000, 'a');
    file.write(large);
    file.write("tail");
    file.overwrite(1, bytes_of("XYZ"));
    file.overwrite(large.size() + 3, bytes_of("L"));
    file.write("more");
    file.commit();
    CHECK(read_file(folder / "out") == "aXYZ" + large.substr(4) + "taiLmore");
}

TEST_CASE("leftovers of the same target go when a new file begins, nothing else does") {
    const TempFolder folder;
    for (const char* name :
         {"out.partial-abc123", "out.partial-XXXXXX", "out.partial-abc1234", "out.partial-",
          "out.p", "other.partial-abc123", "an-out.partial-abc123"})
        write_file(folder / name, "x");
    std::filesystem::create_directory(folder / "out.partial-folder");
    std::filesystem::create_symlink(folder / "out.p", folder / "out.partial-linked");
    AtomicFile file(folder / "out");
    file.commit();
    const std::vector<std::string> expected = {"an-out.partial-abc123",
                                               "other.partial-abc123",
                                               "out",
                                               "out.p",
                                               "out.partial-",
                                               "out.partial-abc1234",
                                               "out.partial-folder",
                                               "out.partial-linked"};
    CHECK(names_in(folder / "") == expected);
}

TEST_CASE("a killed writer's file is removed by the next one, a living writer's is not") {
    const TempFolder folder;
    const auto target = folder / "out";
    const int status = status_of_child([&] {
        AtomicFile file(target);
        file.write("half");
        ::kill(::getpid(), SIGKILL);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(names_in(folder / "").size() == 1);

    AtomicFile first(target);
    CHECK(names_in(folder / "").size() == 1);  // the leftover is gone
    first.write("first");
    AtomicFile second(target);
    second.write("second");
    CHECK(names_in(folder / "").size() == 2);
    first.commit();
    CHECK(read_file(target) == "first");
    second.commit();
    CHECK(read_file(target) == "second");
    CHECK(names_in(folder / "") == std::vector<std::string>{"out"});
}

TEST_CASE("many writers of one target never take each other's file away") {
    const TempFolder folder;
    const auto target = folder / "out";
    constexpr int kProcesses = 4;
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            try {
                for (int k = 0; k < 50; ++k) {
                    AtomicFile file(target);
                    file.write("whole");
                    file.commit();
                }
            } catch (const Error&) {
                ::_exit(1);
            }
            ::_exit(0);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    CHECK(read_file(target) == "whole");
    CHECK(names_in(folder / "") == std::vector<std::string>{"out"});
}

TEST_CASE("reserved space is taken at once and what is not used is given back") {
    const TempFolder folder;
    constexpr uint64_t kReserved = uint64_t{8} << 20;
    AtomicFile file(folder / "out");
    file.reserve(kReserved);
    const auto temporary = folder / names_in(folder / "").at(0);
    const uint64_t n_taken = n_disk_bytes(temporary);
    CHECK((n_taken >= kReserved || n_taken == 0));  // 0: this file system cannot reserve
    CHECK(std::filesystem::file_size(temporary) == 0);
    file.write("short");
    file.commit();
    CHECK(read_file(folder / "out") == "short");
    CHECK(n_disk_bytes(folder / "out") <= 65536);
}

TEST_CASE("more than the disk has is refused before anything is written") {
    const TempFolder folder;
    AtomicFile file(folder / "out");
    std::string message;
    try {
        file.reserve(uint64_t{1} << 60);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::runtime);
        message = error.what();
    }
    CHECK(message.find("1152921504606846976 are needed") != std::string::npos);
    file.reserve(0);
}

TEST_CASE("a limit on the size of files is met when space is reserved, and nothing is left") {
    const TempFolder folder;
    const int status = status_of_child([&] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit = {1000, 1000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        AtomicFile file(folder / "out");
        file.reserve(1001);
        file.write(std::string(1001, 'x'));  // where nothing can be reserved
        file.commit();
    });
    CHECK(WEXITSTATUS(status) == static_cast<int>(ErrorCode::runtime));
    CHECK(names_in(folder / "").empty());
}
