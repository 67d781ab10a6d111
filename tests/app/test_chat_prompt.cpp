// Prompts of real templates: where checkpoints belong, and how thinking is switched.
#include "app/chat_prompt.h"
#include "app/engine.h"
#include "tests/app/chat_models.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace nemo;

namespace {

Json message(const char* role, std::string text, std::string thought = "") {
    Json::Object object = {{"role", role}, {"content", std::move(text)}};
    if (!thought.empty()) object.emplace_back("reasoning_content", std::move(thought));
    return object;
}

int64_t n_common(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    return std::ranges::mismatch(a, b).in1 - a.begin();
}

// Conversations that end with a user message, with and without a system prompt.
std::vector<Json::Array> conversations() {
    const Json::Array first = {message("user", "What is Mamba?")};
    Json::Array later = {message("system", "Be kind."), message("user", "Hi"),
                         message("assistant", "\nHello there. \n", "They greet me."),
                         message("user", "\n\nAnd now?  ")};
    Json::Array latest = later;
    latest.push_back(message("assistant", "Now we go on."));
    latest.push_back(message("user", "a"));
    return {first, later, latest};
}

struct Renderer {
    explicit Renderer(ChatFormat format)
        : tokenizer(load_tokenizer(chat_model(format))),
          renderer(*tokenizer, tokenizer->data().chat_template, "template") {}

    ChatPrompt render(const Json& messages, Thinking thinking = Thinking::automatic) const {
        return renderer.render(messages, {.thinking = thinking});
    }
    std::string text(const ChatPrompt& prompt, int64_t from, int64_t to) const {
        return tokenizer->decode(
            std::span(prompt.ids)
                .subspan(static_cast<size_t>(from), static_cast<size_t>(to - from)),
            true);
    }

    std::unique_ptr<Tokenizer> tokenizer;
    PromptRenderer renderer;
};

// What stands after the conversation's end, before the answer.
std::string header(ChatFormat format, bool thinking) {
    switch (format) {
        case ChatFormat::demo:
            return "<|im_start|>assistant\n";
        case ChatFormat::nano_v2:
            return std::string("<SPECIAL_11>Assistant\n") +
                   (thinking ? "<think>\n" : "<think></think>");
        case ChatFormat::nemotron_3:
            return std::string("<|im_start|>assistant\n") +
                   (thinking ? "<think>\n" : "<think></think>");
    }
    return "";
}

}  // namespace

TEST_CASE("our templates do what the published ones do") {
    for (const ChatFormat format : {ChatFormat::nano_v2, ChatFormat::nemotron_3}) {
        const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(chat_model(format));
        const PromptRenderer published(*tokenizer, format_template(format), "published");
        const PromptRenderer ours(*tokenizer,
                                  read_file(NEMO_SOURCE_DIR "/tests/data/templates/" +
                                            std::string(chat_format_name(format)) + ".jinja"),
                                  "ours");
        for (const Json::Array& messages : conversations())
            for (const Thinking thinking : {Thinking::automatic, Thinking::on, Thinking::off}) {
                const ChatPrompt a = published.render(messages, {.thinking = thinking});
                const ChatPrompt b = ours.render(messages, {.thinking = thinking});
                CHECK(a.ids == b.ids);
                CHECK(a.checkpoints == b.checkpoints);
            }
    }
}

TEST_CASE("checkpoints stand where the conversation can go on differently") {
    for (const ChatFormat format : kChatFormats) {
        const Renderer renderer(format);
        for (const Json::Array& messages : conversations()) {
            CAPTURE(chat_format_name(format));
            CAPTURE(messages.size());
            const ChatPrompt prompt = renderer.render(messages);
            const int64_t n = std::ssize(prompt.ids);
            REQUIRE(prompt.checkpoints.size() == 2);
            const int64_t history_end = prompt.checkpoints[0];
            const int64_t prompt_end = prompt.checkpoints[1];
            REQUIRE(0 < history_end);
            REQUIRE(history_end < prompt_end);
            REQUIRE(prompt_end < n);
            CHECK(renderer.text(prompt, prompt_end, n) == header(format, true));
            // Nothing but the message lies between the two, and perhaps a line break on each side.
            const std::string own = renderer.text(prompt, history_end, prompt_end);
            CHECK(own.find("Assistant") == std::string::npos);
            CHECK(own.size() <= messages.back().find("content")->string().size() + 12);

            // The message edited: nothing before it is read again.
            for (const char* edited : {"b", "a", "\nx", "  y", "Something else\n\n", "1"}) {
                Json::Array other = messages;
                other.back() = message("user", edited);
                CHECK(n_common(prompt.ids, renderer.render(other).ids) >= history_end);
            }
            // Another answer, with or without thinking; the next turn.
            for (const Thinking thinking : {Thinking::on, Thinking::off})
                CHECK(n_common(prompt.ids, renderer.render(messages, thinking).ids) >= prompt_end);
            Json::Array next = messages;
            next.push_back(message("assistant", "An answer", "A thought"));
            next.push_back(message("user", "next"));
            const ChatPrompt next_prompt = renderer.render(next);
            CHECK(n_common(prompt.ids, next_prompt.ids) >= prompt_end);
            CHECK(next_prompt.checkpoints[0] > prompt_end);
            // Thoughts of the past are not sent, unless the template asks for them.
            CHECK(renderer.text(next_prompt, 0, std::ssize(next_prompt.ids)).find("A thought") ==
                  std::string::npos);
        }
    }
}

TEST_CASE("thinking is switched by what the template offers") {
    const auto control = [](ChatFormat format) {
        return Renderer(format).renderer.thinking_control();
    };
    CHECK(control(ChatFormat::demo) == ThinkingControl::none);
    CHECK(control(ChatFormat::nano_v2) == ThinkingControl::words);
    CHECK(control(ChatFormat::nemotron_3) == ThinkingControl::variable);
    for (const ChatFormat format : kChatFormats) {
        CAPTURE(chat_format_name(format));
        const Renderer renderer(format);
        for (const Json::Array& messages : conversations()) {
            const auto ends_with = [&](Thinking thinking, bool thinks) {
                const ChatPrompt prompt = renderer.render(messages, thinking);
                const bool opened = prompt.thought == ChatPrompt::Thought::opened;
                CHECK(opened == (thinks && format != ChatFormat::demo));
                return renderer.text(prompt, 0, std::ssize(prompt.ids))
                    .ends_with(header(format, thinks));
            };
            CHECK(ends_with(Thinking::automatic, true));
            CHECK(ends_with(Thinking::on, true));
            CHECK(ends_with(Thinking::off, false));
        }
    }
    // A word of the user is stronger than a default, and the choice is stronger than old words.
    const Renderer nano(ChatFormat::nano_v2);
    const auto opened = [&](const Json::Array& messages, Thinking thinking) {
        return nano.render(messages, thinking).thought == ChatPrompt::Thought::opened;
    };
    CHECK(!opened({message("user", "Hi /no_think")}, Thinking::automatic));
    CHECK(opened({message("system", "/no_think"), message("user", "Hi")}, Thinking::on));
    CHECK(!opened({message("system", "/think"), message("user", "Hi")}, Thinking::off));
}

TEST_CASE("a broken or missing template is reported when it is used") {
    const Renderer demo(ChatFormat::demo);
    const Json messages = Json::Array{message("user", "Hi")};
    const PromptRenderer broken(*demo.tokenizer, "{{ nothing", "broken");
    CHECK_THROWS_AS(broken.render(messages, {}), Error);
    const PromptRenderer missing(*demo.tokenizer, "", "missing");
    CHECK_THROWS_WITH_AS(missing.render(messages, {}),
                         "missing: there is no chat template; use --raw or --chat-template-file",
                         Error);
    const PromptRenderer strict(
        *demo.tokenizer,
        "{% if not add_generation_prompt %}{{ raise_exception('no') }}{% endif %}x y", "strict");
    CHECK(strict.render(messages, {}).checkpoints.empty());
}

TEST_CASE("a thought ends when its budget is spent") {
    for (const ChatFormat format : {ChatFormat::nano_v2, ChatFormat::nemotron_3}) {
        CAPTURE(chat_format_name(format));
        const Engine engine(chat_model(format), 1);
        const ChatPrompt prompt =
            engine.chat_prompt(Json::Array{message("user", "What is Mamba?")}, {});
        const auto run = [&](int64_t budget) {
            Session session(engine.model(), {});
            GenerateOptions options = {.max_tokens = 60, .reasoning_budget = budget};
            options.sampling.temperature = 0;
            const GenerateResult result =
                engine.generate(session, prompt, options, [](TextPart, std::string_view) {}, {});
            return std::pair(result, engine.tokenizer().decode(session.tokens(), true));
        };
        const auto [free, free_text] = run(-1);
        CHECK(!free.reasoning.empty());
        CHECK(free.text.empty());
        const auto [none, none_text] = run(0);
        CHECK(none.reasoning.empty());
        CHECK(none_text.find("<think>\n</think>") != std::string::npos);
        const auto [some, some_text] = run(1);
        CHECK(free.reasoning.starts_with(some.reasoning));
        CHECK(some.reasoning.size() < free.reasoning.size());
        CHECK(some_text.find(some.reasoning + "\n</think>") != std::string::npos);
        const size_t end = some_text.find("</think>");
        CHECK(some_text.find("</think>", end + 1) == std::string::npos);
    }
}
