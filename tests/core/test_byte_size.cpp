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

TEST_CASE("sizes as people read them") {
    CHECK(size_text(0) == "0 B");
    CHECK(size_text(1023) == "1023 B");
    CHECK(size_text(1024) == "1.00 KiB");
    CHECK(size_text(2998688) == "2.86 MiB");
    CHECK(size_text(uint64_t{6} << 30) == "6.00 GiB");
    CHECK(size_text(uint64_t{5000} << 40) == "5000.00 TiB");
}

}  // namespace
}  // namespace nemo
