#include "core/error.h"
#include "core/loaded_bytes.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>

namespace nemo {
namespace {

std::string numbered_bytes(size_t n) {
    std::string text(n, '\0');
    for (size_t i = 0; i < n; ++i) text[i] = static_cast<char>(i * 31 + i / 256 * 7 + i / 65536);
    return text;
}

// So that it has to come from the disk.
void drop_from_page_cache(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDWR);
    ::fsync(descriptor);
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
}

bool is_inside(const std::byte* data, const MappedFile& file) {
    return data >= file.bytes().data() && data < file.bytes().data() + file.bytes().size();
}

TEST_CASE("loaded bytes are the file's, wherever they begin and end") {
    const TempFolder folder;
    constexpr size_t kSize = (size_t{9} << 20) + 123;
    write_file(folder / "a", numbered_bytes(kSize));
    write_file(folder / "b", "of another file");
    const MappedFile a = MappedFile::open(folder / "a"), b = MappedFile::open(folder / "b");
    LoadedBytes loaded;
    for (const bool is_cached : {false, true}) {
        CAPTURE(is_cached);
        if (!is_cached) drop_from_page_cache(folder / "a");
        const MappedRange ranges[] = {
            {&a, a.bytes().subspan(5, 100)},     {&b, b.bytes()},
            {&a, a.bytes().subspan(4096, 4096)}, {&a, a.bytes().subspan(8191, 5'000'000)},
            {&a, a.bytes().last(200)},           {&a, a.bytes().subspan(kSize, 0)},
            {&b, b.bytes().subspan(3, 7)},
        };
        loaded.load(ranges);
        for (const MappedRange& range : ranges) {
            if (range.bytes.empty()) continue;
            for (const size_t skipped : {size_t{0}, range.bytes.size() / 2}) {
                const std::span<const std::byte> part = range.bytes.subspan(skipped);
                const std::byte* found = loaded.find(part);
                CHECK_FALSE(is_inside(found, *range.file));
                CHECK(std::equal(part.begin(), part.end(), found));
            }
        }
        // What is not there as a whole is left to the mapping.
        const std::span<const std::byte> across = a.bytes().subspan(50, 100);
        CHECK(loaded.find(across) == across.data());
        loaded.load({});
        CHECK(loaded.find(ranges[0].bytes) == ranges[0].bytes.data());
    }
}

TEST_CASE("what is in the page cache is not copied") {
    const TempFolder folder;
    write_file(folder / "f", numbered_bytes(100'000));
    const MappedFile file = MappedFile::open(folder / "f");
    const MappedRange range = {&file, file.bytes().subspan(10'000, 50'000)};
    LoadedBytes loaded;
    loaded.load({&range, 1});
    const std::byte* found = loaded.find(range.bytes);
    const std::byte other = ~found[20'000];
    const int descriptor = ::open((folder / "f").c_str(), O_WRONLY);
    REQUIRE(::pwrite(descriptor, &other, 1, 30'000) == 1);
    ::close(descriptor);
    CHECK(found[20'000] == other);
}

TEST_CASE("a file that changed since it was mapped is not read as if it had not") {
    const TempFolder folder;
    write_file(folder / "f", numbered_bytes(100'000));
    const MappedFile file = MappedFile::open(folder / "f");
    const MappedRange end = {&file, file.bytes().last(10)};
    const std::string path = (folder / "f").string();
    LoadedBytes loaded;
    std::filesystem::resize_file(folder / "f", 90'000);
    CHECK_THROWS_WITH_AS(
        loaded.load({&end, 1}),
        (path + ": byte 98304 is missing, of 100000 that it had when it was opened").c_str(),
        Error);
    std::filesystem::rename(folder / "f", folder / "old");
    CHECK_THROWS_WITH_AS(loaded.load({&end, 1}),
                         (path + ": is not the file any more that it was").c_str(), Error);
    write_file(folder / "f", numbered_bytes(100'000));
    CHECK_THROWS_WITH_AS(loaded.load({&end, 1}),
                         (path + ": is not the file any more that it was").c_str(), Error);
}

}  // namespace
}  // namespace nemo
