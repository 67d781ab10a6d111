// nemo-cli chat, used by a pipe and by somebody at a terminal.
#include "app/chat_store.h"
#include "core/json.h"
#include "tests/app/chat_models.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <pty.h>

#include <algorithm>
#include <chrono>

using namespace nemo;

namespace {

// Where a test's chats and history are.
struct Home {
    TempFolder folder;
    std::vector<std::string> environment() const {
        return {"NEMO_DATA=" + (folder / "data").string(),
                "XDG_STATE_HOME=" + (folder / "state").string(),
                "XDG_CACHE_HOME=" + (folder / "cache").string()};
    }
    ChatStore store() const { return ChatStore::open(folder / "data" / "chats.db"); }
};

std::vector<std::string> chat_arguments(ChatFormat format, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {program("nemo-cli"), "chat", "-m", chat_model(format), "-t", "1"});
    return more;
}

// nemo-cli chat at a terminal of its own.
class TerminalUser {
public:
    TerminalUser(const Home& home, std::vector<std::string> arguments, const std::string& term) {
        std::vector<std::string> environment = home.environment();
        environment.push_back("TERM=" + term);
        child_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
        if (child_ == 0) {
            for (std::string& entry : environment) ::putenv(entry.data());
            ::unsetenv("NO_COLOR");
            std::vector<char*> argv;
            for (std::string& argument : arguments) argv.push_back(argument.data());
            argv.push_back(nullptr);
            ::execv(argv[0], argv.data());
            ::_exit(127);
        }
    }
    ~TerminalUser() {
        if (child_ > 0) {
            ::kill(child_, SIGKILL);
            ::waitpid(child_, nullptr, 0);
        }
        if (terminal_ >= 0) ::close(terminal_);
    }

    void type(const std::string& text) {
        CHECK(::write(terminal_, text.data(), text.size()) == std::ssize(text));
    }
    // True once this has appeared in what was not waited for yet.
    bool sees(const std::string& text) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (std::chrono::steady_clock::now() < deadline) {
            const size_t found = seen.find(text, n_consumed_);
            if (found != std::string::npos) {
                n_consumed_ = found + text.size();
                return true;
            }
            if (!read_some()) break;
        }
        MESSAGE("instead of \"", text, "\": ", seen.substr(n_consumed_));
        return false;
    }
    // Closes the terminal, and waits for the program's end.
    void hang_up() {
        ::close(terminal_);
        terminal_ = -1;
        exit_status();
    }
    // -1: it does not end.
    int exit_status() {
        while (read_some()) {
        }
        int status = 0;
        pid_t ended = 0;
        for (int n_tries = 0; ended == 0 && n_tries < 6000; ++n_tries) {
            ended = ::waitpid(child_, &status, WNOHANG);
            if (ended == 0) ::usleep(10'000);
        }
        if (ended == 0) return -1;
        child_ = 0;
        return decode_status(status);
    }

    std::string seen;

private:
    bool read_some() {
        if (terminal_ < 0) return false;
        pollfd request = {terminal_, POLLIN, 0};
        if (::poll(&request, 1, 60'000) <= 0) return false;
        char buffer[4096];
        const ssize_t n = ::read(terminal_, buffer, sizeof buffer);
        if (n <= 0) return false;
        seen.append(buffer, static_cast<size_t>(n));
        return true;
    }

    int terminal_ = -1;
    pid_t child_ = 0;
    size_t n_consumed_ = 0;
};

}  // namespace

TEST_CASE("piped lines are turns, and only answers come out") {
    const Home home;
    const auto run = [&](std::vector<std::string> arguments, const std::string& input) {
        return run_process(std::move(arguments), input, home.environment());
    };
    const ProcessResult result = run(chat_arguments(ChatFormat::demo),
                                     "What is Mamba?\n\n/tree\n\"\"\"Who are\nyou?\"\"\"\n");
    CHECK(result.status == 0);
    CHECK(contains(result.out, "Mamba is"));
    CHECK(std::ranges::count(result.out, '\n') == 2);
    CHECK(contains(result.err, "you: What is Mamba?"));
    CHECK(!contains(result.err, "\x1b"));

    const ProcessResult more =
        run({program("nemo-cli"), "chat", "--continue", "-v"}, "And\\\nnow?\n//x\n");
    CHECK(more.status == 0);
    CHECK(std::ranges::count(more.out, '\n') == 2);
    CHECK(contains(more.err, "[reused "));
    CHECK(run({program("nemo-cli"), "chat", "--chat", "99"}, "").status == 2);
    CHECK(run(chat_arguments(ChatFormat::demo), "/nonsense\nHi\n").status == 2);
    CHECK(run(chat_arguments(ChatFormat::demo, {"-c", "30"}), "Hi\n" + std::string(200, 'x'))
              .status == 5);

    // What was never spoken in is not kept.
    const ChatStore store = home.store();
    const std::vector<Chat> chats = store.chats();
    REQUIRE(chats.size() == 2);
    const std::vector<Message> messages = store.shown(chats.back().id);
    REQUIRE(messages.size() == 8);
    CHECK(messages[2].content == "Who are\nyou?");
    CHECK(messages[4].content == "And\nnow?");
    CHECK(messages[6].content == "/x");
    CHECK(contains(result.out, messages[1].content));
}

TEST_CASE("states that memory has no room for come back from the disk") {
    const Home home;
    const ProcessResult result = run_process(
        chat_arguments(ChatFormat::demo, {"-v", "--state-budget", "1KiB"}),
        "What is Mamba? Say it in a few words, please.\nAnd who are you?\n/regen\n/info\n",
        home.environment());
    CHECK(result.status == 0);
    // The header of the answer alone is read again.
    const size_t last = result.err.rfind("[reused ");
    REQUIRE(last != std::string::npos);
    CHECK(contains(result.err.substr(last), ", read 4 in"));
    CHECK(contains(result.err, " on disk"));
}

TEST_CASE("a state that neither memory nor the disk takes is lost with a word") {
    const Home home;
    std::vector<std::string> environment = home.environment();
    environment.push_back("XDG_CACHE_HOME=/dev/null");
    const ProcessResult result =
        run_process(chat_arguments(ChatFormat::demo, {"--state-budget", "1KiB"}),
                    "What is Mamba?\nAnd who are you?\n/info\n", environment);
    CHECK(result.status == 0);
    CHECK(contains(result.err, "one was lost: /dev/null/nemo: cannot create the folder"));
}

TEST_CASE("a chat goes on with the model that it had last") {
    const Home home;
    const auto run = [&](std::vector<std::string> arguments) {
        return run_process(std::move(arguments), "What is Mamba?\n", home.environment());
    };
    CHECK(run(chat_arguments(ChatFormat::demo)).status == 0);
    CHECK(home.store().chats()[0].model.path == chat_model(ChatFormat::demo));
    CHECK(run(chat_arguments(ChatFormat::nano_v2, {"--continue"})).status == 0);
    CHECK(home.store().chats()[0].model.path == chat_model(ChatFormat::nano_v2));
    CHECK(run({program("nemo-cli"), "chat", "--continue"}).status == 0);
    CHECK(home.store().chats()[0].model.path == chat_model(ChatFormat::nano_v2));
}

TEST_CASE("chats of a named file, with states of their own") {
    const Home home;
    const auto say = [&](const std::string& text, std::vector<std::string> more) {
        return run_process(chat_arguments(ChatFormat::demo, std::move(more)), text,
                           home.environment());
    };
    const std::string other = (home.folder / "other.db").string();
    CHECK(say("Hello!\n", {}).status == 0);
    CHECK(say("What is rice?\n", {"--chats", other}).status == 0);
    CHECK(home.store().shown(1).at(0).content == "Hello!");
    CHECK(ChatStore::open(other).shown(1).at(0).content == "What is rice?");
    CHECK(say("And beans?\n", {"--chats", other, "--chat", "1"}).status == 0);
    CHECK(ChatStore::open(other).shown(1).size() == 4);
    CHECK(say("Hi\n", {"--continue"}).status == 0);
    // Each went on where it had stopped: the question's few tokens were new.
    for (const ChatStore& store : {home.store(), ChatStore::open(other)})
        CHECK(store.shown(1).at(3).stats.find("n_reused")->integer() > 10);

    const std::string model = chat_model(ChatFormat::demo);
    CHECK(contains(say("Hi\n", {"--chats", model}).err, "is no file of chats"));
}

TEST_CASE("thoughts do not reach standard output") {
    const Home home;
    const std::vector<std::string> arguments =
        chat_arguments(ChatFormat::nemotron_3, {"--temp", "0", "--reasoning-budget", "1"});
    const ProcessResult result = run_process(arguments, "What is Mamba?\n", home.environment());
    CHECK(result.status == 0);
    const ChatStore store = home.store();
    const std::vector<Message> messages = store.shown(store.chats()[0].id);
    REQUIRE(messages.size() == 2);
    CHECK(!messages[1].reasoning.empty());
    CHECK(result.out == messages[1].content + "\n");
    CHECK(result.err.empty());
}

TEST_CASE("settings with which every answer would fail are refused, and not kept") {
    const Home home;
    for (const std::vector<std::string>& wrong :
         {std::vector<std::string>{"--top-p", "7"}, {"--temp", "-1"}, {"--min-p", "nan"}}) {
        const ProcessResult result =
            run_process(chat_arguments(ChatFormat::demo, wrong), "Hi\n", home.environment());
        CHECK(result.status == 2);
        CHECK(home.store().chats().empty());
    }
    for (const char* wrong : {"top_p 7", "temperature inf", "max_tokens -5", "seed -2"}) {
        const ProcessResult result =
            run_process(chat_arguments(ChatFormat::demo), "Hi\n/set " + std::string(wrong) + "\n",
                        home.environment());
        CHECK(result.status == 2);
        CHECK(contains(result.err, " is needed"));
        CHECK(home.store().chats().front().settings == Json(Json::Object{}));
    }
}

TEST_CASE("a chat is saved to a file, loaded from it, and found") {
    const Home home;
    const std::string json = (home.folder / "chat.json").string();
    const std::string markdown = (home.folder / "chat.md").string();
    const auto run = [&](const std::string& input) {
        return run_process(chat_arguments(ChatFormat::demo), input, home.environment());
    };
    const ProcessResult saved =
        run("What is Mamba?\n/regen\n/save " + json + "\n/save " + markdown +
            "\n/search mamba\n/think off\n/set top_k 7\n/set\n/system Be kind.\n"
            "/title Snakes\n/branch\n/help\n");
    CHECK(saved.status == 0);
    CHECK(contains(read_file(markdown), "What is Mamba?"));
    for (const char* part : {"Thinking: off", "top_k              7", "Be kind.", "Title: Snakes",
                             "What is Mamba?: ", "/summarise"})
        CHECK(contains(saved.err, part));
    const ProcessResult loaded = run("/load " + json + "\n/tree\n/undo\nHello!\n");
    CHECK(loaded.status == 0);
    CHECK(contains(loaded.err, "you: What is Mamba?"));
    CHECK(run("Hi\n/save " + json + "\n").status == 2);
    CHECK(run("/load " + markdown + "\n").status == 3);

    const ChatStore store = home.store();
    const std::vector<Chat> chats = store.chats();
    REQUIRE(chats.size() == 3);
    CHECK(store.tree(chats[1].id).size() == 5);  // the copy: two answers, one more turn
    CHECK(chats[2].title == "Snakes");
    CHECK(chats[2].system == "Be kind.");
}

TEST_CASE("a conversation at a terminal") {
    const Home home;
    TerminalUser user(home, chat_arguments(ChatFormat::demo), "xterm");
    REQUIRE(user.sees("> "));
    user.type("What is Mxamba?\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x7f\r");
    REQUIRE(user.sees("Mamba is a kind"));
    CHECK(user.sees("[reused 0, read "));
    CHECK(user.sees("> "));
    user.type("/regen\r");
    CHECK(user.sees("Mamba is a kind"));
    CHECK(user.sees("[reused "));
    CHECK(user.sees("> "));
    user.type("a line to drop");
    CHECK(user.sees("drop"));
    user.type("\x03");
    CHECK(user.sees("^C"));
    CHECK(user.sees("> "));
    user.type("/edit\r");
    CHECK(user.sees("edit 1> "));
    CHECK(user.sees("Mamba?"));
    user.type("\x15Who are you?\r");
    CHECK(user.sees("nemo demo"));
    CHECK(user.sees("> "));
    // Pasted lines are one message.
    user.type("\x1b[200~one\ntwo\x1b[201~");
    CHECK(user.sees("two"));
    user.type("\r");
    CHECK(user.sees("[reused "));
    CHECK(user.sees("> "));
    user.type("/tree\r");
    CHECK(user.sees("you: one two"));
    CHECK(user.sees("> "));
    user.type("\x04");
    CHECK(user.exit_status() == 0);

    const ChatStore store = home.store();
    const std::vector<Message> messages = store.shown(store.chats()[0].id);
    REQUIRE(messages.size() == 4);
    CHECK(messages[0].content == "Who are you?");
    CHECK(messages[2].content == "one\ntwo");
    CHECK(contains(read_file(home.folder / "state/nemo/history"), "Mamba?"));
}

TEST_CASE("a closed terminal ends the chat in order") {
    const Home home;
    const std::vector<std::string> endless = {"-c",      "200000", "--temp",  "9", "--top-k", "0",
                                              "--top-p", "1",      "--min-p", "0", "--seed",  "1"};
    TerminalUser user(home, chat_arguments(ChatFormat::demo, endless), "xterm");
    REQUIRE(user.sees("> "));
    user.type("Hello!\r");
    REQUIRE(user.sees("Hello!\r\n"));
    REQUIRE(user.sees(" "));
    user.hang_up();
    const ChatStore store = home.store();
    const std::vector<Message> messages = store.shown(store.chats()[0].id);
    REQUIRE(messages.size() == 2);
    CHECK(!messages[1].content.empty());
    CHECK(messages[1].stats.is_object());  // written by the program itself, when it stopped
    CHECK(std::filesystem::exists(home.folder / "cache/nemo/state" /
                                  (std::to_string(messages[0].chat) + ".state")));
}

TEST_CASE("Ctrl-C stops an answer and keeps it; a dumb terminal gets no escapes") {
    const Home home;
    // Chance does not end this answer, and the context is long.
    TerminalUser user(
        home,
        chat_arguments(ChatFormat::demo, {"-c", "200000", "--temp", "9", "--top-k", "0", "--top-p",
                                          "1", "--min-p", "0", "--seed", "1"}),
        "dumb");
    REQUIRE(user.sees("> "));
    user.type("Hello!\r");
    REQUIRE(user.sees("Hello!\r\n"));
    REQUIRE(user.sees(" "));
    user.type("\x03");
    CHECK(user.sees("; stopped]"));
    CHECK(user.sees("> "));
    user.type("/bye\r");
    CHECK(user.exit_status() == 0);
    CHECK(!contains(user.seen, "\x1b"));
    const ChatStore store = home.store();
    const std::vector<Message> messages = store.shown(store.chats()[0].id);
    REQUIRE(messages.size() == 2);
    CHECK(messages[1].state == MessageState::interrupted);
    CHECK(!messages[1].content.empty());
}
