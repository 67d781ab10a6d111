#include "core/error.h"
#include "core/mapped_file.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace nemo;

TEST_CASE("a mapped file shows the file's bytes") {
    const TempFolder folder;
    write_file(folder / "f", "hello");
    const MappedFile file = MappedFile::open(folder / "f");
    CHECK(file.text() == "hello");
    MappedFile moved;
    moved = MappedFile::open(folder / "f");
    CHECK(moved.text() == "hello");
    write_file(folder / "empty", "");
    CHECK(MappedFile::open(folder / "empty").bytes().empty());
    CHECK_THROWS_AS(MappedFile::open(folder / "absent"), Error);
    CHECK_THROWS_AS(MappedFile::open("/dev/zero"), Error);
    // A pipe that nobody writes to is refused at once.
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK_THROWS_AS(MappedFile::open(folder / "pipe"), Error);
}

TEST_CASE("a file that is truncated while mapped ends the program with a status, not a signal") {
    const TempFolder folder;
    write_file(folder / "f", std::string(1 << 20, 'x'));
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(STDERR_FILENO);
        install_lost_page_handler();
        const MappedFile file = MappedFile::open(folder / "f");
        std::filesystem::resize_file(folder / "f", 1);
        volatile char lost = file.text()[500'000];
        ::_exit(lost == 0 ? 1 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == static_cast<int>(ErrorCode::bad_file));
}
