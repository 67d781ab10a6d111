#include "core/error.h"
#include "core/spill_file.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <vector>

using namespace nemo;

TEST_CASE("spilled bytes come back, leave no name behind and give their space back") {
    const TempFolder folder;
    SpillFile file(folder / "new");
    struct stat status = {};
    REQUIRE(::stat((folder / "new").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0700);
    CHECK(std::filesystem::is_empty(folder / "new"));
    const std::vector<std::byte> a(100000, std::byte{1}), b(5, std::byte{2});
    const uint64_t at_a = file.write(a), at_b = file.write(b);
    CHECK(file.n_bytes() == 100005);
    std::vector<std::byte> back(5);
    file.read(at_b, back);
    CHECK(back == b);
    back.resize(a.size());
    file.read(at_a, back);
    CHECK(back == a);
    file.discard(at_a, a.size());
    CHECK(file.n_bytes() == 5);
    file.read(at_a, back);
    CHECK(back != a);
    CHECK_THROWS_AS(file.read(at_b, back), Error);
    CHECK(file.n_free_bytes() > 0);
}

TEST_CASE("a folder that cannot be spilled to is refused") {
    const TempFolder folder;
    write_file(folder / "file", "x");
    CHECK_THROWS_AS(SpillFile(folder / "file"), Error);
}
