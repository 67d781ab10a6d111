#include "core/json.h"

#include "core/error.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace nemo;

namespace {

std::string parse_error(std::string_view text, const JsonLimits& limits = {}) {
    try {
        parse_json(text, "file.json", limits);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        return error.what();
    }
    return "";
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("json: every kind of value, order kept") {
    const Json value = parse_json(
        R"( {"z": [1, -2, 2.5, "a\u00e9\n\ud83d\ude00", true, false, null], "a": {}, "m": []} )",
        "t");
    REQUIRE(value.is_object());
    CHECK(value.object()[0].first == "z");
    CHECK(value.object()[2].first == "m");
    const Json::Array& array = value.find("z")->array();
    CHECK(array[0].integer() == 1);
    CHECK(array[1].integer() == -2);
    CHECK(array[1].number() == -2.0);
    CHECK(array[2].number() == 2.5);
    CHECK(array[2].is_real());
    CHECK(array[3].string() == "a\u00e9\n\U0001F600");
    CHECK(array[4].boolean());
    CHECK_FALSE(array[5].boolean());
    CHECK(array[6].is_null());
    CHECK(value.find("a")->object().empty());
    CHECK(value.find("absent") == nullptr);
    CHECK(array[0].find("z") == nullptr);
}

TEST_CASE("json: numbers at the borders") {
    const Json::Array numbers = parse_json(
                                    "[9223372036854775807, -9223372036854775808, "
                                    "9223372036854775808, 123456789012345678901234567890,"
                                    " Infinity, -Infinity, NaN, 1e308, 5e-324, 0.1, 1.0]",
                                    "t")
                                    .array();
    CHECK(numbers[0].integer() == std::numeric_limits<int64_t>::max());
    CHECK(numbers[1].integer() == std::numeric_limits<int64_t>::min());
    CHECK(numbers[2].is_real());
    CHECK(numbers[2].number() == 9223372036854775808.0);
    CHECK(numbers[3].number() == 123456789012345678901234567890.0);
    CHECK(numbers[4].number() == std::numeric_limits<double>::infinity());
    CHECK(numbers[5].number() == -std::numeric_limits<double>::infinity());
    CHECK(std::isnan(numbers[6].number()));
    CHECK(numbers[7].number() == 1e308);
    CHECK(numbers[8].number() == 5e-324);
    CHECK(numbers[9].number() == 0.1);
    CHECK(numbers[10].is_real());
}

TEST_CASE("json: errors name the source, the byte and the reason") {
    CHECK(contains(parse_error(R"({"a": 1, "b": 2, "a": 3})"), "file.json: byte 23"));
    CHECK(contains(parse_error(R"({"a": 1, "b": 2, "a": 3})"), "duplicate key \"a\""));
    CHECK(contains(parse_error("[1, 2"), "byte 5"));
    CHECK(contains(parse_error("[1, x]"), "byte 4"));
    CHECK(contains(parse_error("{} x"), "byte 3"));
    CHECK(contains(parse_error(std::string_view("{}\0garbage", 10)), "byte 2"));
    CHECK(parse_error("") != "");
    CHECK(parse_error("   ") != "");
    CHECK(parse_error("[1,]") != "");
    CHECK(parse_error("{'a': 1}") != "");
    CHECK(parse_error("\"\xC3(\"") != "");
    CHECK(parse_error("\"\xED\xA0\x80\"") != "");
    CHECK(parse_error("\"\\ud800\"") != "");
    CHECK(parse_error("1e999") != "");
    CHECK(parse_error("// c\n1") != "");
    // Texts that the parser has no answer to.
    CHECK(contains(parse_error("[NaNe5]"), "byte 6: invalid JSON: Invalid value"));
    for (const char* text : {"Infe1", "-Infinitye-3", "[0, NaNE+7]", "{\"a\": Infinitye0}"})
        CHECK(contains(parse_error(text), "Invalid value"));
    // And those in which it would go on with a number behind a word.
    for (const char* text : {"NaN.5", "[1, Infinity.25]", "-Inf.0", "{\"a\": NaN.1e2}", "NaN7"})
        CHECK(contains(parse_error(text), "invalid JSON"));
}

TEST_CASE("json: limits") {
    const std::string deep = std::string(64, '[') + std::string(64, ']');
    CHECK(parse_error(deep) == "");
    CHECK(contains(parse_error("[" + deep + "]"), "nested deeper than 64 levels"));
    CHECK(parse_error(std::string(1'000'000, '[')) != "");
    JsonLimits small;
    small.max_bytes = 4;
    CHECK(parse_error("1234", small) == "");
    CHECK(contains(parse_error("12345", small), "5 bytes, more than the limit of 4"));
}

TEST_CASE("json: many keys are checked quickly") {
    std::string text = "{";
    for (int i = 0; i < 200'000; ++i) text += "\"key" + std::to_string(i) + "\":0,";
    CHECK(contains(parse_error(text + "\"key77\":1}"), "duplicate key \"key77\""));
    CHECK(parse_error(text + "\"last\":1}") == "");
}

TEST_CASE("json: printing") {
    const std::string text =
        R"({"a":[1,-2.5,true,false,null,"q\"\\\n\r\t\b\f\u0001 /é"],"o":{},"e":[],"r":[1.0,Infinity,-Infinity,NaN]})";
    CHECK(to_json_text(parse_json(text, "t")) == text);
    CHECK(to_json_text(Json()) == "null");
}

// Expected: repr() in Python.
TEST_CASE("json: reals print as Python prints them") {
    CHECK(json_real_text(0.0) == "0.0");
    CHECK(json_real_text(-0.0) == "-0.0");
    CHECK(json_real_text(1.0) == "1.0");
    CHECK(json_real_text(100.0) == "100.0");
    CHECK(json_real_text(0.1) == "0.1");
    CHECK(json_real_text(-12.75) == "-12.75");
    CHECK(json_real_text(0.0001) == "0.0001");
    CHECK(json_real_text(0.00001234) == "1.234e-05");
    CHECK(json_real_text(1e15) == "1000000000000000.0");
    CHECK(json_real_text(1234567890123456.7) == "1234567890123456.8");
    CHECK(json_real_text(1e16) == "1e+16");
    CHECK(json_real_text(1.5e300) == "1.5e+300");
    CHECK(json_real_text(5e-324) == "5e-324");
}
