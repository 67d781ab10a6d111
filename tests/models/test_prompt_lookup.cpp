// Guesses from earlier places of a text.
#include "models/prompt_lookup.h"

#include <doctest/doctest.h>

using namespace nemo;

namespace {

std::vector<int32_t> guess_after(const std::vector<int32_t>& tokens, int64_t n) {
    PromptLookup lookup;
    lookup.add(tokens);
    return lookup.guess(n);
}

using Tokens = std::vector<int32_t>;

}  // namespace

TEST_CASE("what followed the last three tokens before is guessed") {
    CHECK(guess_after({1, 2, 3, 4, 5, 6, 1, 2, 3}, 3) == Tokens{4, 5, 6});
    CHECK(guess_after({1, 2, 3, 4, 5, 6, 1, 2, 3}, 1) == Tokens{4});
    CHECK(guess_after({1, 2, 3, 4, 5, 6, 2, 3}, 3) == Tokens{});  // two are too few
    CHECK(guess_after({1, 2, 3, 4, 5, 6, 1, 2, 7}, 3) == Tokens{});
    CHECK(guess_after({1, 2, 3}, 3) == Tokens{});
    CHECK(guess_after({}, 3) == Tokens{});
    CHECK(guess_after({1, 2, 3, 4, 1, 2, 3}, 0) == Tokens{});
}

TEST_CASE("the newest place counts, unless an older one matches longer") {
    CHECK(guess_after({1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3}, 1) == Tokens{5});
    CHECK(guess_after({7, 8, 9, 1, 2, 3, 4, 0, 1, 2, 3, 5, 7, 8, 9, 1, 2, 3}, 1) == Tokens{4});
}

TEST_CASE("a text that repeats itself goes on repeating") {
    CHECK(guess_after({1, 2, 1, 2, 1}, 4) == Tokens{2, 1, 2, 1});
    CHECK(guess_after({5, 5, 5, 5}, 3) == Tokens{5, 5, 5});
}

TEST_CASE("places are found as the text grows") {
    PromptLookup lookup;
    for (int32_t i = 0; i < 1000; ++i) lookup.add(i);
    CHECK(lookup.guess(2).empty());
    lookup.add(Tokens{500, 501, 502});
    CHECK(lookup.guess(2) == Tokens{503, 504});
    lookup.add(503);
    CHECK(lookup.guess(1) == Tokens{504});
    lookup.add(7);
    CHECK(lookup.guess(1).empty());
}
