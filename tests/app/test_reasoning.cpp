// Thoughts and answers are told apart however the text is cut into pieces.
#include "app/reasoning.h"

#include <doctest/doctest.h>

#include <vector>

using namespace nemo;

namespace {

struct Parts {
    std::string thought;
    std::string answer;
    bool in_order = true;  // no thought after the answer began
    bool operator==(const Parts&) const = default;
};

Parts split(bool opened, const std::vector<std::string>& pieces) {
    Parts parts;
    const auto sink = [&](TextPart part, std::string_view text) {
        CHECK(!text.empty());
        if (part == TextPart::thought && !parts.answer.empty()) parts.in_order = false;
        (part == TextPart::thought ? parts.thought : parts.answer) += text;
    };
    ReasoningSplitter splitter(opened);
    for (const std::string& piece : pieces) splitter.push(piece, sink);
    splitter.finish(sink);
    return parts;
}

struct Case {
    bool opened;
    std::string text;
    Parts expected;
};

const std::vector<Case> kCases = {
    {false, "", {"", ""}},
    {false, "Hello", {"", "Hello"}},
    {false, " \n Hello ", {"", " \n Hello "}},
    {false, "<think>\nhm\n</think>\n\nHello\n", {"hm", "Hello\n"}},
    {false, "\n<think>a b\n\nc</think>d", {"a b\n\nc", "d"}},
    {false, "<think></think>d", {"", "d"}},
    {false, "<thin is <think>x</think>", {"", "<thin is <think>x</think>"}},
    {false, "<thi", {"", "<thi"}},
    {false, " ", {"", " "}},
    {true, "\nhm.\n</think>\n\nHello", {"hm.", "Hello"}},
    {true,
     "a < b </thin </ think></think>c </think> d",
     {"a < b </thin </ think>", "c </think> d"}},
    {true, "cut off \n", {"cut off", ""}},
    {true, "cut </thi", {"cut </thi", ""}},
    {true, "<think>again</think>x", {"<think>again", "x"}},
    {true, "</think>", {"", ""}},
    {true, " </think> ", {"", ""}},
};

}  // namespace

TEST_CASE("a thought is split off, whatever the pieces") {
    for (const Case& test : kCases) {
        const std::string& text = test.text;
        CAPTURE(text);
        CHECK(split(test.opened, {text}) == test.expected);
        std::vector<std::string> letters;
        for (const char c : text) letters.emplace_back(1, c);
        CHECK(split(test.opened, letters) == test.expected);
        for (size_t i = 0; i <= text.size(); ++i)
            for (size_t k = i; k <= text.size(); ++k)
                CHECK(split(test.opened, {text.substr(0, i), text.substr(i, k - i),
                                          text.substr(k)}) == test.expected);
    }
}

TEST_CASE("text appears as soon as it is certain") {
    ReasoningSplitter splitter(true);
    std::string shown;
    const auto sink = [&](TextPart, std::string_view text) { shown += text; };
    splitter.push("so, a < b", sink);
    CHECK(shown == "so, a < b");
    CHECK(splitter.in_thought());
    splitter.push(" </th", sink);
    CHECK(shown == "so, a < b");
    splitter.push("e", sink);
    CHECK(shown == "so, a < b </the");
    splitter.push("</think>\nY", sink);
    CHECK(shown == "so, a < b </theY");
    CHECK(!splitter.in_thought());
}

TEST_CASE("a prompt may end inside a thought") {
    CHECK(ends_inside_thought("assistant\n<think>"));
    CHECK(ends_inside_thought("assistant\n<think>\n\n"));
    CHECK(!ends_inside_thought("assistant\n<think></think>"));
    CHECK(!ends_inside_thought("<think>x"));
    CHECK(!ends_inside_thought(""));
}
