// The chat in the terminal: reads lines, shows answers, runs commands. Standard output carries the
// answers only; all else goes to standard error.
#pragma once

#include "app/chat_store.h"
#include "app/commands.h"
#include "app/conversation.h"
#include "app/engine.h"
#include "app/line_input.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace nemo {

class ChatTerminal {
public:
    explicit ChatTerminal(const ChatCommand& command);
    ~ChatTerminal();
    ChatTerminal(const ChatTerminal&) = delete;
    ChatTerminal& operator=(const ChatTerminal&) = delete;

    // Until the end of the input or /bye; the exit status.
    int run();

    // For the commands.
    Conversation& chat() { return *chat_; }
    ChatStore& store() { return store_; }
    const Engine& engine() const { return *engine_; }
    LineInput& input() { return input_; }
    const AnswerReport& last_report() const { return last_report_; }
    // What a command was asked for, made safe for the terminal.
    void print(std::string_view text) const;
    void open_chat(int64_t id);
    void open_new_chat();
    void leave() { leaves_ = true; }
    void show_thoughts(bool shows) { shows_thoughts_ = shows; }
    // Runs what makes the model answer, and shows it.
    using Answering =
        std::function<AnswerReport(const Conversation::OnText&, const Conversation::Cancelled&)>;
    void answer(const Answering& answering);

private:
    int64_t chosen_chat() const;
    void open_model();
    ModelReference model_reference() const;
    void say(std::string_view text) const;  // unless it is to be quiet
    void greet();
    void take(const std::string& text);
    void after_answer(const AnswerReport& report);
    void offer_summary(const AnswerReport& report);
    void change_chat(int64_t id);
    void purge_if_empty(int64_t id);

    ChatCommand command_;
    ChatStore store_;
    std::filesystem::path state_folder_;
    LineInput input_;
    bool shows_thoughts_;
    bool shows_footer_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Session> session_;
    std::unique_ptr<Conversation> chat_;
    AnswerReport last_report_;
    bool leaves_ = false;
};

}  // namespace nemo
