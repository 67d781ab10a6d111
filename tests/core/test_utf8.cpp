#include "core/utf8.h"

#include <doctest/doctest.h>

using namespace nemo;

TEST_CASE("utf8: every code point survives encoding and decoding") {
    for (char32_t value = 0; value <= 0x10FFFF; ++value) {
        if (value >= 0xD800 && value <= 0xDFFF) continue;
        std::string text;
        append_utf8(text, value);
        const CodePoint point = decode_utf8(text, 0);
        if (!point.valid || point.value != value ||
            point.n_bytes != static_cast<int>(text.size())) {
            FAIL("code point ", static_cast<uint32_t>(value));
        }
    }
}

TEST_CASE("utf8: malformed sequences are invalid and cost one byte") {
    for (const char* text :
         {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xC3("}) {
        CAPTURE(text);
        const CodePoint point = decode_utf8(text, 0);
        CHECK_FALSE(point.valid);
        CHECK(point.value == 0xFFFD);
        CHECK(point.n_bytes == 1);
        CHECK_FALSE(is_valid_utf8(text));
    }
    CHECK(is_valid_utf8(""));
    CHECK(is_valid_utf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
}

// Expected texts: bytes.decode("utf-8", errors="replace") in Python.
TEST_CASE("utf8: sanitize replaces maximal ill-formed parts") {
    CHECK(sanitize_utf8("plain \xC3\xA9") == "plain \xC3\xA9");
    CHECK(sanitize_utf8("a\xE2\x82z") == "a\uFFFDz");
    CHECK(sanitize_utf8("\xE2\x82") == "\uFFFD");
    CHECK(sanitize_utf8("\xF0\x9F\x98") == "\uFFFD");
    CHECK(sanitize_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
    CHECK(sanitize_utf8("\xC0\xAF\xFF") == "\uFFFD\uFFFD\uFFFD");
    CHECK(sanitize_utf8("\xF0\x80\x80\x41") == "\uFFFD\uFFFD\uFFFD\x41");
    CHECK(sanitize_utf8("\xF4\x8F\xBF\xF4\x8F\xBF\xBF") == "\uFFFD\U0010FFFF");
}

TEST_CASE("utf8: incomplete tail") {
    const std::string smile = "\xF0\x9F\x98\x80";
    CHECK(incomplete_utf8_tail("") == 0);
    CHECK(incomplete_utf8_tail("abc") == 0);
    CHECK(incomplete_utf8_tail("a" + smile) == 0);
    for (size_t n_bytes = 1; n_bytes <= 3; ++n_bytes) {
        CHECK(incomplete_utf8_tail("a" + smile.substr(0, n_bytes)) == n_bytes);
        CHECK(incomplete_utf8_tail(smile.substr(0, n_bytes)) == n_bytes);
    }
    CHECK(incomplete_utf8_tail("\xC3") == 1);
    CHECK(incomplete_utf8_tail("\x80\x80") == 0);
    CHECK(incomplete_utf8_tail("\xC3\xA9\xA9") == 0);
    CHECK(incomplete_utf8_tail("\xED\xA0") ==
          0);  // the start of a surrogate can never be completed
}
