#include "core/byte_size.h"

#include "core/error.h"

#include <doctest/doctest.h>

namespace nemo {
namespace {

TEST_CASE("sizes as people write them") {
    CHECK(parse_byte_size("1") == 1);
    CHECK(parse_byte_size("1234567") == 1234567);
    CHECK(parse_byte_size("12B") == 12);
    CHECK(parse_byte_size("6GiB") == uint64_t{6} << 30);
    CHECK(parse_byte_size("6G") == uint64_t{6} << 30);
    CHECK(parse_byte_size("6 GB") == 6'000'000'000);
    CHECK(parse_byte_size("2.5mb") == 2'500'000);
    CHECK(parse_byte_size("1.5K") == 1536);
    CHECK(parse_byte_size("2TiB") == uint64_t{2} << 40);
    for (const char* text : {"", "GB", "0", "-1GB", "6 XB", "6GBs", "6iB", "0.5", "nan", "inf",
                             "1e30", "6..5G", "99999999TB"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(parse_byte_size(text), Error);
    }
}

}  // namespace
}  // namespace nemo
