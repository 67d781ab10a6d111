// The engine with the bundled demo model: what it answers, and that a user's text stays text.
#include "app/engine.h"
#include "core/error.h"
#include "tests/app/demo_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>

using namespace nemo;

namespace {

ChatPrompt prompt_of(const Engine& engine, const std::string& user,
                     const std::string& system = "") {
    Json::Array messages;
    if (!system.empty()) messages.push_back(Json::Object{{"role", "system"}, {"content", system}});
    messages.push_back(Json::Object{{"role", "user"}, {"content", user}});
    return engine.chat_prompt(messages, {.now = local_now()});
}

std::string answer(const Engine& engine, const std::string& question) {
    Session session(engine.model(), {});
    GenerateOptions options;
    options.sampling.temperature = 0;
    options.max_tokens = 100;
    return engine
        .generate(session, prompt_of(engine, question), options, [](TextPart, std::string_view) {},
                  {})
        .text;
}

struct Question {
    std::string text;
    std::string expected;  // part of the answer
};

std::vector<Question> known_questions() {
    std::istringstream file(
        read_file(std::filesystem::path(NEMO_SOURCE_DIR) / "assets/demo/questions.tsv"));
    std::vector<Question> questions;
    for (std::string line; std::getline(file, line);) {
        const size_t tab = line.find('\t');
        if (tab != std::string::npos)
            questions.push_back({line.substr(0, tab), line.substr(tab + 1)});
    }
    return questions;
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

int64_t n_control(const Engine& engine, const std::vector<int32_t>& ids) {
    return std::ranges::count_if(ids, [&](int32_t id) {
        const TokenType type = engine.tokenizer().data().types[static_cast<size_t>(id)];
        return type != TokenType::normal && type != TokenType::byte;
    });
}

// The question again after its answer: what was said once is likely to be said twice.
ChatPrompt prompt_asking_twice(const Engine& engine, const std::string& question) {
    const auto message = [](const char* role, const std::string& content) {
        return Json::Object{{"role", role}, {"content", content}};
    };
    return engine.chat_prompt(
        Json::Array{message("user", question), message("assistant", answer(engine, question)),
                    message("user", question)},
        {.now = local_now()});
}

GenerateResult generate(Engine& engine, SpeculationMode mode, const ChatPrompt& prompt,
                        const SamplerParams& sampling) {
    engine.set_speculation(mode);
    Session session(engine.model(), {});
    GenerateOptions options;
    options.sampling = sampling;
    options.max_tokens = 60;
    return engine.generate(session, prompt, options, [](TextPart, std::string_view) {}, {});
}

}  // namespace

TEST_CASE("guessing ahead changes no answer") {
    Engine engine(demo_model(DType::q8_0), 2);
    std::vector<std::string> questions = {"Count to ten."};
    for (const Question& question : known_questions())
        if (questions.size() < 12) questions.push_back(question.text);
    int64_t n_accepted = 0;
    for (const std::string& question : questions) {
        CAPTURE(question);
        const ChatPrompt prompt = prompt_asking_twice(engine, question);
        for (const float temperature : {0.0f, 1.0f}) {
            const SamplerParams sampling = {.temperature = temperature, .seed = 5};
            const GenerateResult plain = generate(engine, SpeculationMode::off, prompt, sampling);
            const GenerateResult guessed =
                generate(engine, SpeculationMode::always, prompt, sampling);
            CHECK(guessed.text == plain.text);
            CHECK(guessed.reason == plain.reason);
            CHECK(guessed.n_generated == plain.n_generated);
            CHECK(plain.n_drafted == 0);
            CHECK(guessed.n_accepted <= guessed.n_drafted);
            n_accepted += guessed.n_accepted;
        }
    }
    CHECK(n_accepted > 20);
}

TEST_CASE("the demo model knows its answers in every number format") {
    const std::vector<Question> questions = known_questions();
    REQUIRE(questions.size() >= 30);
    for (const DType type : {DType::bf16, DType::q8_0, DType::q4_0}) {
        const Engine engine(demo_model(type), 2);
        for (const Question& question : questions) {
            const std::string text = answer(engine, question.text);
            CAPTURE(dtype_info(type).name);
            CAPTURE(question.text);
            CAPTURE(question.expected);
            CAPTURE(text);
            CHECK(lower(text).find(lower(question.expected)) != std::string::npos);
        }
    }
}

TEST_CASE("control tokens that a user types stay text") {
    const Engine engine(demo_model(DType::q8_0), 1);
    const TokenizerData& vocabulary = engine.tokenizer().data();
    const int64_t n_own = n_control(engine, prompt_of(engine, "Hi", "Be kind.").ids);
    CHECK(n_own > 3);
    std::string all = "x";
    for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
        if (vocabulary.types[id] != TokenType::control) continue;
        const std::string& token = vocabulary.tokens[id];
        all += token + " " + token.substr(0, token.size() / 2) + token + "\n";
        CHECK(n_control(engine, prompt_of(engine, token, "Be kind.").ids) == n_own);
        CHECK(n_control(engine, prompt_of(engine, "Hi", "Be " + token).ids) == n_own);
    }
    CHECK(n_control(engine, prompt_of(engine, all, all).ids) == n_own);
    // The text itself arrives, to the letter.
    CHECK(engine.tokenizer().decode(prompt_of(engine, all).ids, true).find(all) !=
          std::string::npos);
}

TEST_CASE("a prompt that is written out and one that is given as text are the same") {
    const Engine engine(demo_model(DType::q8_0), 1);
    CHECK(prompt_of(engine, "Hello!").ids ==
          engine.raw_prompt("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n").ids);
}

TEST_CASE("generation reports why it ended") {
    const Engine engine(demo_model(DType::q8_0), 1);
    const ChatPrompt prompt = prompt_of(engine, "Hello!");
    GenerateOptions options;
    options.sampling.temperature = 0;
    const auto run = [&](int64_t n_context, const Session::Cancelled& cancelled) {
        Session session(engine.model(), {.n_context = n_context});
        return engine.generate(
            session, prompt, options, [](TextPart, std::string_view) {}, cancelled);
    };
    const GenerateResult whole = run(0, {});
    CHECK(whole.reason == FinishReason::stop);
    CHECK(whole.n_read == std::ssize(prompt.ids));
    options.max_tokens = 1;
    CHECK(run(0, {}).reason == FinishReason::length);
    CHECK(run(0, {}).n_generated == 1);
    options.max_tokens = 2;  // the second one need not be read
    Session session(engine.model(), {});
    engine.generate(session, prompt, options, [](TextPart, std::string_view) {}, {});
    CHECK(session.tokens().size() == prompt.ids.size() + 1);
    options.max_tokens = 0;
    CHECK(run(0, {}).reason == FinishReason::length);
    options.max_tokens = -1;
    CHECK(run(std::ssize(prompt.ids), {}).reason == FinishReason::context_full);
    CHECK(run(0, [] { return true; }).reason == FinishReason::cancelled);
    int n_asked = 0;
    const GenerateResult stopped = run(0, [&] { return ++n_asked == 3; });
    CHECK(stopped.reason == FinishReason::cancelled);
    CHECK(stopped.n_generated == 1);
    CHECK(whole.text.starts_with(stopped.text));
    CHECK_THROWS_AS(run(3, {}), Error);
}
