// Chat templates against what Python's jinja2 gives: our own cases (tests/data/jinja_cases.json,
// made by tests/oracle/make_jinja_cases.py). Templates that others published are not part of the
// project: whoever has some beside the checkout, NAME.jinja and a cases.json of the same form in
// ../shared/data/templates, tests these too.
#include "core/chat_template.h"

#include "core/error.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

using namespace nemo;

namespace {

std::string read_file(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    std::stringstream text;
    text << stream.rdbuf();
    return text.str();
}

// 2026-11-21T12:00:00, the clock of all cases.
std::tm case_clock() {
    std::tm clock = {};
    clock.tm_year = 126;
    clock.tm_mon = 10;
    clock.tm_mday = 21;
    clock.tm_hour = 12;
    clock.tm_wday = 6;
    clock.tm_yday = 324;
    return clock;
}

TemplateInput case_input(const Json& test) {
    TemplateInput input;
    input.now = case_clock();
    if (const Json* messages = test.find("messages")) input.messages = *messages;
    if (const Json* tools = test.find("tools")) input.tools = *tools;
    if (const Json* add = test.find("add_generation_prompt"))
        input.add_generation_prompt = add->boolean();
    if (const Json* variables = test.find("kwargs")) input.variables = variables->object();
    for (const char* name : {"bos_token", "eos_token"}) {
        if (const Json* token = test.find(name)) input.variables.emplace_back(name, *token);
    }
    return input;
}

// Whether the case came out as Python had it; says so if not.
bool passes(const std::string& source, const Json& test, const std::string& label) {
    const Json* expected = test.find("expected");
    const Json* wanted_error = test.find("error");
    try {
        const std::string text =
            plain_text(ChatTemplate::compile(source, "t").render(case_input(test)));
        if (expected && text == expected->string()) return true;
        MESSAGE(label, "\nexpected: ",
                expected ? expected->string() : "an error: " + wanted_error->string(),
                "\nrendered: ", text);
    } catch (const Error& error) {
        // Errors of ours are worded differently; those that the template raises are not.
        const std::string prefix = "TemplateError: ";
        const std::string wanted = wanted_error ? wanted_error->string() : "";
        const bool is_raised = wanted.rfind(prefix, 0) == 0;
        const bool has_text =
            !is_raised ||
            std::string(error.what()).find(wanted.substr(prefix.size())) != std::string::npos;
        if (wanted_error && has_text && std::string(error.what()).rfind("t:", 0) == 0) return true;
        MESSAGE(label, "\nexpected: ", expected ? expected->string() : "the error " + wanted,
                "\nerror: ", std::string(error.what()));
    }
    return false;
}

}  // namespace

TEST_CASE("chat template: our own cases render as with Python's jinja2") {
    const std::filesystem::path path = NEMO_SOURCE_DIR "/tests/data/jinja_cases.json";
    const Json file = parse_json(read_file(path), path.string());
    const Json::Array& cases = file.find("cases")->array();
    REQUIRE(cases.size() > 500);
    for (const Json& test : cases) {
        Json complete = test;
        complete.object().emplace_back("kwargs", *file.find("variables"));
        const std::string& source = test.find("template")->string();
        CHECK(passes(source, complete, source));
    }
}

TEST_CASE("chat template: published templates render as with Python's jinja2") {
    const std::filesystem::path folder = NEMO_SOURCE_DIR "/../shared/data/templates";
    if (!std::filesystem::exists(folder / "cases.json")) {
        MESSAGE("no published templates beside the checkout: skipped");
        return;
    }
    const Json cases = parse_json(read_file(folder / "cases.json"), "cases.json");
    int n_passed = 0;
    for (const Json& test : cases.array()) {
        const std::string& name = test.find("template")->string();
        const std::string source = read_file(folder / (name + ".jinja"));
        n_passed += passes(source, test, name + " / " + test.find("case")->string()) ? 1 : 0;
    }
    MESSAGE(n_passed, " of ", cases.array().size(), " published cases pass");
    CHECK(n_passed == static_cast<int>(cases.array().size()));
}
