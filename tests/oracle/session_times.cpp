// What it costs to go on with a long chat, in parts: how long each action takes until its first
// token is known, beside the least that the model needs for it, one step of generation and reading
// the new tokens at that depth. The rest is what the program adds: rendering, tokenizing, the
// database, states copied.
//
// usage: session_times MODEL.gguf FOLDER [N_TOKENS] [N_THREADS]
// The first call makes the chat in FOLDER and reads it, every other one goes on with it as after a
// restart of the program. The weights may be random.
#include "app/conversation.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

using namespace nemo;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string long_text(const Engine& engine, int64_t n_tokens) {
    std::string text;
    for (int i = 0; i % 100 != 0 || std::ssize(engine.raw_prompt(text).ids) < n_tokens; ++i)
        text += "word " + std::to_string(i * 7919 % 1000) + ", ";
    return text;
}

struct Action {
    std::string name;
    int64_t n_read = 0;
    double seconds = 0;  // until the first token is known
};

class TimedChat {
public:
    TimedChat(const Engine& engine, Session& session, ChatStore& store, int64_t id,
              const std::filesystem::path& folder)
        : session_(session), chat_(engine, session, store, id, folder / "state") {
        chat_.set_on_prompt([this](int64_t n_done, int64_t n_prompt) {
            if (n_done == n_prompt) prompt_read_ = Clock::now();
        });
    }

    template <class Run>
    void act(const std::string& name, const Run& run) {
        const auto start = Clock::now();
        const AnswerReport report = run(chat_);
        actions_.push_back(
            {name, report.n_read, std::chrono::duration<double>(prompt_read_ - start).count()});
    }

    // Median of the times that n more tokens take at the end of the session.
    double seconds_to_read(int64_t n) {
        std::vector<double> times;
        const std::vector<int32_t> ids(static_cast<size_t>(n), 7);
        for (int i = 0; i < 3; ++i) {
            const auto start = Clock::now();
            session_.append(ids);
            times.push_back(seconds_since(start));
        }
        std::ranges::sort(times);
        return times[1];
    }

    void print() {
        const double step = seconds_to_read(1);
        fmt::print("one step of generation at {} tokens: {:.3f} s\n", session_.state().position(),
                   step);
        fmt::print(
            "| action | read | seconds | reading them alone | ratio |\n|---|---|---|---|---|\n");
        for (const Action& action : actions_) {
            const double reading = seconds_to_read(action.n_read);
            fmt::print("| {} | {} | {:.3f} | {:.3f} | {:.2f} |\n", action.name, action.n_read,
                       action.seconds, reading, action.seconds / (step + reading));
        }
    }

    Conversation& chat() { return chat_; }

private:
    Session& session_;
    Conversation chat_;
    Clock::time_point prompt_read_;
    std::vector<Action> actions_;
};

void run_actions(TimedChat& chat) {
    const auto ignore = [](TextPart, std::string_view) {};
    const auto newest = [&](const char* role) {
        const std::vector<Message> messages = chat.chat().messages();
        return std::ranges::find(messages.rbegin(), messages.rend(), role, &Message::role)->id;
    };
    const auto regenerate = [&](Conversation& c) { return c.regenerate(ignore, {}); };
    const auto send = [&](const char* text) {
        return [&, text](Conversation& c) { return c.send(text, ignore, {}); };
    };
    chat.act("restart, next turn", send("What was said first?"));
    const int64_t branch = newest("assistant");
    chat.act("next turn", send("Who said that?"));
    chat.act("regenerate", regenerate);
    chat.act("edit of the last message", [&](Conversation& c) {
        return c.edit(newest("user"), "And then what happened?", ignore, {});
    });
    AnswerSettings settings = chat.chat().settings();
    settings.thinking = Thinking::off;
    chat.chat().set_settings(settings);
    chat.act("thinking off, regenerate", regenerate);
    chat.chat().switch_to(branch);
    chat.act("other branch, next turn", send("Why?"));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    const std::filesystem::path folder = argv[2];
    const int64_t n_tokens = argc > 3 ? std::atoll(argv[3]) : 8192;
    std::filesystem::create_directories(folder);
    auto start = Clock::now();
    const Engine engine(argv[1], argc > 4 ? std::atoi(argv[4]) : 0);
    Session session(engine.model(), {});
    ChatStore store = ChatStore::open(folder / "chats.db");
    fmt::print("opening the model and the chats: {:.3f} s\n", seconds_since(start));
    const std::vector<Chat> chats = store.chats();
    AnswerSettings settings;
    settings.max_tokens = 8;
    settings.temperature = 0.0f;
    settings.thinking = Thinking::on;
    const int64_t id = chats.empty() ? store.create_chat({.settings = settings_to_json(settings)})
                                     : chats.front().id;
    start = Clock::now();
    TimedChat chat(engine, session, store, id, folder);
    fmt::print("restoring the state of {} tokens: {:.3f} s {}\n", session.tokens().size(),
               seconds_since(start), chat.chat().state_notice());
    if (chats.empty())
        chat.chat().send(long_text(engine, n_tokens), [](TextPart, std::string_view) {}, {});
    else
        run_actions(chat);
    start = Clock::now();
    chat.chat().keep_state();
    fmt::print("keeping the state: {:.3f} s\n", seconds_since(start));
    if (!chats.empty()) chat.print();
}
