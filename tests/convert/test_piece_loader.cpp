#include "convert/piece_loader.h"

#include "core/error.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

namespace nemo {
namespace {

TEST_CASE("pieces come in order, each loaded") {
    const TempFolder folder;
    write_file(folder / "f", "0123456789");
    const MappedFile file = MappedFile::open(folder / "f");
    for (const size_t n : {0, 1, 2, 3, 10}) {
        CAPTURE(n);
        PieceLoader pieces(n, [&](size_t i) {
            return std::vector<MappedRange>{{&file, file.bytes().subspan(i, 1)}};
        });
        for (size_t i = 0; i < n; ++i) {
            const LoadedBytes& loaded = pieces.next();
            const std::span<const std::byte> mapped = file.bytes().subspan(i, 1);
            const std::byte* found = loaded.find(mapped);
            CHECK(found != mapped.data());
            CHECK(*found == *mapped.data());
        }
    }
}

TEST_CASE("a piece that cannot be loaded ends the reading when its turn comes") {
    const TempFolder folder;
    write_file(folder / "f", "0123456789");
    const MappedFile file = MappedFile::open(folder / "f");
    PieceLoader pieces(5, [&](size_t i) {
        if (i == 3) fail(ErrorCode::bad_file, "piece {} is bad", i);
        return std::vector<MappedRange>{{&file, file.bytes().subspan(i, 1)}};
    });
    for (int i = 0; i < 3; ++i) CHECK_NOTHROW(pieces.next());
    CHECK_THROWS_WITH_AS(pieces.next(), "piece 3 is bad", Error);
}

}  // namespace
}  // namespace nemo
