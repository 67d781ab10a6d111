#include "app/stop_strings.h"

#include <doctest/doctest.h>

using namespace nemo;

TEST_CASE("text passes unchanged without stop strings") {
    StopStrings stops({});
    CHECK(stops.push("abc") == "abc");
    CHECK(stops.finish().empty());
    CHECK_FALSE(stops.stopped());
}

TEST_CASE("a stop string that arrives in pieces never shows") {
    StopStrings stops({"\nUser:"});
    CHECK(stops.push("Hello\n") == "Hello");
    CHECK(stops.push("Us").empty());
    CHECK(stops.push("er: x").empty());
    CHECK(stops.stopped());
    CHECK(stops.push("more").empty());
    CHECK(stops.finish().empty());
}

TEST_CASE("what only looked like a stop string is shown") {
    StopStrings stops({"STOP"});
    CHECK(stops.push("ST") == "");
    CHECK(stops.push("ART") == "START");
    CHECK(stops.push("STO") == "");
    CHECK(stops.finish() == "STO");
}

TEST_CASE("the earliest of several stop strings ends the text") {
    StopStrings stops({"zz", "", "b", "abc"});
    CHECK(stops.push("xabc") == "x");
    CHECK(stops.stopped());
}

TEST_CASE("a stop string may overlap itself") {
    StopStrings stops({"aab"});
    CHECK(stops.push("aa") == "");
    CHECK(stops.push("a") == "a");
    CHECK(stops.push("b") == "");
    CHECK(stops.stopped());
}
