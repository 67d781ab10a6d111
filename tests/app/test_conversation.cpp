// An open chat: what it keeps, what it reads, what survives.
#include "app/conversation.h"
#include "app/state_folder.h"
#include "core/error.h"
#include "tests/app/chat_models.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

using namespace nemo;

namespace {

const auto kIgnore = [](TextPart, std::string_view) {};

// A chat with a model in a store of its own.
struct Fixture {
    explicit Fixture(ChatFormat format, int64_t n_context = 0)
        : engine(chat_model(format), 1),
          session(engine.model(), {.n_context = n_context}),
          store(ChatStore::open(folder / "chats.db")),
          chat(engine, session, store, store.create_chat({})) {
        AnswerSettings settings;
        settings.temperature = 0.0f;
        settings.max_tokens = 24;
        settings.reasoning_budget = 4;
        chat.set_settings(settings);
    }

    AnswerReport send(const std::string& text) { return chat.send(text, kIgnore, {}); }

    TempFolder folder;
    Engine engine;
    Session session;
    ChatStore store;
    Conversation chat;
};

std::string long_text(int n_words) {
    std::string text;
    for (int i = 0; i < n_words; ++i) text += "word " + std::to_string(i * 7919 % 1000) + ", ";
    return text;
}

// Remembers every sequence of tokens that the session has held.
class Observer {
public:
    explicit Observer(Fixture& fixture) : fixture_(fixture) {
        const Json messages = Json::Array{Json::Object{{"role", "user"}, {"content", "Hi"}}};
        for (const Thinking thinking : {Thinking::on, Thinking::off}) {
            const ChatPrompt prompt = fixture.engine.chat_prompt(messages, {.thinking = thinking});
            n_header_ = std::max(n_header_, std::ssize(prompt.ids) - prompt.checkpoints.back());
        }
    }

    // Runs an action; true if it read what had never been read, and the answer's header at most.
    template <class Action>
    bool reads_only_what_is_new(const Action& action) {
        const AnswerReport report = action();
        const std::vector<int32_t>& held = fixture_.session.tokens();
        const int64_t n_prompt = report.n_reused + report.n_read;
        int64_t n_known = 0;
        for (const std::vector<int32_t>& known : known_)
            n_known = std::max(
                n_known,
                common_prefix(known, std::span(held).first(static_cast<size_t>(n_prompt))));
        known_.push_back(held);
        CAPTURE(n_prompt);
        CAPTURE(n_known);
        CAPTURE(report.n_read);
        CHECK(report.n_read <= n_prompt - n_known + n_header_);
        CHECK(report.n_read < n_prompt);
        return report.n_read <= n_prompt - n_known + n_header_;
    }

private:
    Fixture& fixture_;
    int64_t n_header_ = 0;  // tokens
    std::vector<std::vector<int32_t>> known_;
};

int64_t user_message(const Conversation& chat, size_t n) {
    size_t n_seen = 0;
    for (const Message& message : chat.messages())
        if (message.role == "user" && n_seen++ == n) return message.id;
    return 0;
}

}  // namespace

// At 8192 tokens and a little above in the published models' formats.
TEST_CASE("whatever is done to a chat, only what is new is read") {
    for (const ChatFormat format : kChatFormats) {
        CAPTURE(chat_format_name(format));
        const bool is_long = format != ChatFormat::demo;
        Fixture fixture(format, is_long ? 16384 : 0);
        Conversation& chat = fixture.chat;
        chat.set_system("You are a patient teacher. " + long_text(20));
        Observer observer(fixture);
        const AnswerReport first = fixture.send("What is Mamba? " + long_text(is_long ? 1390 : 60));
        if (is_long) CHECK(first.n_read >= 8192);
        const auto send = [&] { return fixture.send("And what is a token? " + long_text(15)); };
        const auto regenerate = [&] { return chat.regenerate(kIgnore, {}); };
        for (int turn = 0; turn < 3; ++turn) CHECK(observer.reads_only_what_is_new(send));
        CHECK(observer.reads_only_what_is_new(regenerate));
        CHECK(observer.reads_only_what_is_new([&] {
            return chat.edit(user_message(chat, 3), "What else? " + long_text(9), kIgnore, {});
        }));
        CHECK(observer.reads_only_what_is_new(send));

        for (const Thinking thinking : {Thinking::off, Thinking::on, Thinking::off}) {
            AnswerSettings settings = chat.settings();
            settings.thinking = thinking;
            chat.set_settings(settings);
            CHECK(observer.reads_only_what_is_new(regenerate));
        }

        // The older branch goes on, then the newer one again.
        const int64_t newer = chat.chat().leaf;
        const int64_t third = user_message(chat, 2);
        const std::vector<Message> tree = fixture.store.tree(chat.id());
        const auto older = std::ranges::find_if(tree, [&](const Message& message) {
            return message.role == "user" && message.parent != 0 &&
                   fixture.store.message(message.parent).parent == third;
        });
        REQUIRE(older != tree.end());
        chat.switch_to(older->id);
        CHECK(observer.reads_only_what_is_new(send));
        chat.switch_to(newer);
        CHECK(chat.chat().leaf == newer);
        CHECK(observer.reads_only_what_is_new(send));
        // An early message edited: the session comes back to where it stood.
        CHECK(observer.reads_only_what_is_new(
            [&] { return chat.edit(user_message(chat, 1), "Why?", kIgnore, {}); }));
    }
}

TEST_CASE("edits and retries are siblings, undo moves back") {
    Fixture fixture(ChatFormat::demo);
    Conversation& chat = fixture.chat;
    const AnswerReport first = fixture.send("What is Mamba?");
    CHECK(first.reason == FinishReason::stop);
    REQUIRE(chat.messages().size() == 2);
    const Message question = chat.messages()[0];
    const Message answer = chat.messages()[1];
    CHECK(question.content == "What is Mamba?");
    CHECK(answer.state == MessageState::complete);
    CHECK(answer.content.find("Mamba") != std::string::npos);
    CHECK(answer.stats.find("n_read")->integer() == first.n_read);

    const AnswerReport again = chat.regenerate(kIgnore, {});
    CHECK(again.message != first.message);
    CHECK(again.n_read < first.n_read);
    CHECK(fixture.store.children(chat.id(), question.id).size() == 2);
    CHECK(chat.messages()[1].content == answer.content);  // the temperature is 0

    chat.edit(question.id, "Who are you?", kIgnore, {});
    CHECK(fixture.store.children(chat.id(), 0).size() == 2);
    CHECK(chat.messages()[0].content == "Who are you?");
    CHECK_THROWS_AS(chat.edit(answer.id, "x", kIgnore, {}), Error);

    chat.switch_to(question.id);
    CHECK(chat.messages()[1].id == again.message);
    CHECK(chat.undo());
    CHECK(chat.messages().empty());
    CHECK(!chat.undo());
    CHECK_THROWS_AS(chat.regenerate(kIgnore, {}), Error);
    CHECK(fixture.store.tree(chat.id()).size() == 5);
    CHECK_THROWS_AS(Conversation(fixture.engine, fixture.session, fixture.store, chat.id()), Error);
}

TEST_CASE("what a chat is set to stays with it") {
    AnswerSettings settings;
    settings.min_p = 0.25f;
    settings.thinking = Thinking::on;
    Fixture other(ChatFormat::demo);
    Conversation& chat = other.chat;
    other.store.set_settings(chat.id(), Json::Object{{"window_zoom", 2}, {"top_k", 5}});
    chat.set_system("x");  // reads the chat again
    chat.set_settings(settings);
    const Json stored = other.store.chat(chat.id()).settings;
    CHECK(stored.find("window_zoom") != nullptr);
    CHECK(stored.find("top_k") == nullptr);
    const AnswerSettings read = settings_from_json(stored);
    CHECK(read.min_p == 0.25f);
    CHECK(read.thinking == Thinking::on);
    CHECK(!read.top_k);
}

TEST_CASE("a stopped answer keeps what there is") {
    Fixture fixture(ChatFormat::demo);
    std::string shown;
    const auto on_text = [&](TextPart, std::string_view text) { shown += text; };
    int n_asked = 0;
    const AnswerReport report =
        fixture.chat.send("What is Mamba?", on_text, [&] { return ++n_asked == 8; });
    CHECK(report.reason == FinishReason::cancelled);
    const Message answer = fixture.store.message(report.message);
    CHECK(answer.state == MessageState::interrupted);
    CHECK(!shown.empty());
    CHECK(answer.content == shown);
    // The chat goes on after it.
    CHECK(fixture.send("Hello!").reason == FinishReason::stop);
    CHECK(fixture.chat.messages().size() == 4);
}

TEST_CASE("an answer that fails is kept and marked") {
    Fixture fixture(ChatFormat::demo);
    const auto on_text = [](TextPart, std::string_view) { fail(ErrorCode::runtime, "no screen"); };
    CHECK_THROWS_WITH_AS(fixture.chat.send("Hello!", on_text, {}), "no screen", Error);
    const Message answer = fixture.chat.messages().back();
    CHECK(answer.role == "assistant");
    CHECK(answer.state == MessageState::failed);
    CHECK(*answer.stats.find("error") == Json("no screen"));
}

TEST_CASE("a full context is said, and a summary goes on") {
    Fixture fixture(ChatFormat::demo, 160);
    Conversation& chat = fixture.chat;
    AnswerReport report;
    int n_turns = 0;
    do {
        report = fixture.send("Tell me about number " + std::to_string(n_turns) + ", please.");
    } while (report.reason != FinishReason::context_full && ++n_turns < 20);
    REQUIRE(report.reason == FinishReason::context_full);
    const std::vector<Message> before = chat.messages();
    const std::vector<Message> all = fixture.store.tree(chat.id());
    std::string thoughts;
    const AnswerReport next = chat.summarise_and_answer(
        [&](TextPart part, std::string_view text) {
            if (part == TextPart::thought) thoughts += text;
        },
        {});
    CHECK(next.reason != FinishReason::context_full);
    const std::vector<Message> after = chat.messages();
    CHECK(after.size() < before.size());
    CHECK(after[0].role == "system");
    CHECK(after[0].content.find(thoughts) != std::string::npos);
    CHECK(after[after.size() - 2].content == before[before.size() - 2].content);
    CHECK(after.back().state == MessageState::complete);
    // Nothing of the old branch is lost.
    const std::vector<Message> now = fixture.store.tree(chat.id());
    CHECK(now.size() == all.size() + after.size());
    for (size_t i = 0; i < all.size(); ++i) CHECK(now[i].content == all[i].content);
    // A message that alone is too long cannot be helped.
    Fixture small(ChatFormat::demo, 40);
    CHECK(small.send(long_text(100)).reason == FinishReason::context_full);
    CHECK_THROWS_AS(small.chat.summarise_and_answer(kIgnore, {}), Error);
}

TEST_CASE("a chat goes on after a restart as if there had been none") {
    for (const ChatFormat format : kChatFormats) {
        CAPTURE(chat_format_name(format));
        Fixture straight(format);
        const TempFolder folder;
        const auto states = folder / "state";
        int64_t id = 0;
        const std::string first = "What is Mamba? " + long_text(80);
        const auto open_store = [&] { return ChatStore::open(folder / "chats.db"); };
        const auto with_chat = [&](const auto& use) {
            const Engine engine(chat_model(format), 1);
            Session session(engine.model(), {});
            ChatStore store = open_store();
            if (id == 0)
                id = store.create_chat({.settings = settings_to_json(straight.chat.settings())});
            Conversation chat(engine, session, store, id, states);
            return use(chat);
        };
        const AnswerReport before = straight.send(first);
        with_chat([&](Conversation& chat) { return chat.send(first, kIgnore, {}); });

        // The same answer again, an edit, the next turn: each after a restart of its own.
        const auto check = [&](const auto& action) {
            const AnswerReport expected = action(straight.chat);
            const AnswerReport report = with_chat([&](Conversation& chat) {
                CHECK(chat.state_notice().empty());
                return action(chat);
            });
            CHECK(report.n_read == expected.n_read);
            CHECK(report.n_read < before.n_read);
            const ChatStore store = open_store();
            CHECK(store.shown(id).back().content == straight.chat.messages().back().content);
            CHECK(store.shown(id).back().reasoning == straight.chat.messages().back().reasoning);
        };
        check([](Conversation& chat) { return chat.regenerate(kIgnore, {}); });
        check([](Conversation& chat) { return chat.send("And now?", kIgnore, {}); });
        check([](Conversation& chat) {
            return chat.edit(user_message(chat, 1), "Or else?", kIgnore, {});
        });

        // A file that is damaged or belongs to another model: a word about it, and it is read
        // again.
        const auto file = state_file(states, id);
        std::string bytes = read_file(file);
        bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
        write_file(file, bytes);
        const AnswerReport again = with_chat([&](Conversation& chat) {
            CHECK(chat.state_notice().find("read again") != std::string::npos);
            return chat.regenerate(kIgnore, {});
        });
        CHECK(again.n_reused == 0);
        CHECK(again.reason != FinishReason::context_full);
    }
}

TEST_CASE("kept states take only so much of the disk, the newest stays") {
    const TempFolder folder;
    const auto states = folder / "state";
    for (int64_t chat = 1; chat <= 4; ++chat) {
        const auto file = state_file(states, chat);
        write_file(file, std::string(100, 'x'));
        std::filesystem::last_write_time(
            file, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(chat));
    }
    write_file(states / "notes.txt", std::string(1000, 'x'));
    trim_state_folder(states, state_file(states, 1), 200);
    CHECK(std::filesystem::exists(state_file(states, 1)));
    CHECK(!std::filesystem::exists(state_file(states, 2)));
    CHECK(!std::filesystem::exists(state_file(states, 3)));
    CHECK(std::filesystem::exists(state_file(states, 4)));
    CHECK(std::filesystem::exists(states / "notes.txt"));
    trim_state_folder(folder / "nothing", "", 0);
}

TEST_CASE("a killed program loses a second of an answer at most") {
    using namespace std::chrono_literals;
    const TempFolder folder;
    const std::string model = chat_model(ChatFormat::demo);
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        // A slow answer, of which every piece is reported before it goes on.
        const Engine engine(model, 1);
        Session session(engine.model(), {});
        ChatStore store = ChatStore::open(folder / "chats.db");
        Conversation chat(engine, session, store, store.create_chat({}));
        const auto on_text = [&](TextPart, std::string_view text) {
            if (::write(pipe_ends[1], text.data(), text.size()) < 0) ::_exit(1);
            std::this_thread::sleep_for(100ms);
        };
        chat.send("What is Mamba?", on_text, {});
        ::_exit(0);
    }
    ::close(pipe_ends[1]);
    std::vector<std::pair<std::chrono::steady_clock::time_point, std::string>> pieces;
    char buffer[4096];
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < 10s) {
        const ssize_t n = ::read(pipe_ends[0], buffer, sizeof buffer);
        REQUIRE(n > 0);
        pieces.emplace_back(std::chrono::steady_clock::now(),
                            std::string(buffer, static_cast<size_t>(n)));
        if (pieces.size() == 17) break;
    }
    ::kill(child, SIGKILL);
    const auto killed = std::chrono::steady_clock::now();
    int status = 0;
    ::waitpid(child, &status, 0);
    ::close(pipe_ends[0]);
    CHECK(WIFSIGNALED(status));
    std::string due;
    for (const auto& [when, text] : pieces)
        if (killed - when > 1s) due += text;
    REQUIRE(!due.empty());

    ChatStore store = ChatStore::open(folder / "chats.db");
    const std::vector<Chat> chats = store.chats();
    REQUIRE(chats.size() == 1);
    const std::vector<Message> messages = store.shown(chats[0].id);
    REQUIRE(messages.size() == 2);
    CHECK(messages[0].content == "What is Mamba?");
    CHECK(messages[1].state == MessageState::interrupted);
    CHECK(messages[1].content.starts_with(due));
}
