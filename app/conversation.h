// One open chat: the messages in the store, what the model has read of them, and how both move on
// together. Every front end talks to the model through this class.
//
// The store comes first: a message of the user is on the disk before the model reads it, and an
// answer is written there about twice a second while it grows. Nothing is ever overwritten: a
// retry or an edit is a sibling of the old message. The session finds out by itself how little of
// the new prompt has to be read (models/session.h).
//
// One thread at a time. The engine, session and store must outlive the conversation, and only it
// may change the session while it is open.
#pragma once

#include "app/answer_settings.h"
#include "app/background_save.h"
#include "app/chat_store.h"
#include "app/engine.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

// context_full: with n_generated 0, the conversation did not fit; else, the answer filled it.
struct AnswerReport : GenerateResult {
    int64_t message = 0;  // the answer in the store; 0: there is none

    // The answer ended without leaving its thought.
    bool only_thought() const { return text.empty() && !reasoning.empty(); }
};

// What a conversation takes.
struct ContextUsage {
    int64_t n_used = 0;  // tokens
    int64_t n_context = 0;
    int64_t weight_bytes = 0;
    int64_t state_bytes = 0;       // does not grow
    int64_t cache_bytes = 0;       // grows with the tokens
    int64_t checkpoint_bytes = 0;  // states kept so that nothing is read twice
    int64_t spilled_bytes = 0;     // those of them that are on the disk
    std::string spill_problem;     // why one of them was lost; empty: none was
};

class Conversation {
public:
    // Opens a chat of the store. Throws Error{usage} if it is open elsewhere already. What the
    // model has read of it comes from its file in `state_folder` if there is one that fits, else it
    // is read again when it is needed. Without a folder nothing is kept; `coding`: how it is.
    Conversation(const Engine& engine, Session& session, ChatStore& store, int64_t chat,
                 std::filesystem::path state_folder = {}, StateCoding coding = StateCoding::exact);
    // Keeps the state.
    ~Conversation();
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;

    int64_t id() const { return chat_.id; }
    const Chat& chat() const { return chat_; }
    // Why the last state that was to be restored or kept was not; empty if it was.
    const std::string& state_notice() const { return state_notice_; }
    // Keeps what the model has read for the next time. Call before the session turns to another
    // chat; after an answer it happens by itself now and then, while the user reads.
    void keep_state();

    // From the first message to the newest one of the branch that is shown.
    std::vector<Message> messages() const { return store_.shown(chat_.id); }

    using OnText = Engine::OnText;
    using Cancelled = Session::Cancelled;
    using OnPrompt = decltype(GenerateOptions::on_prompt);

    // From now on told how far a prompt is read.
    void set_on_prompt(OnPrompt on_prompt) { on_prompt_ = std::move(on_prompt); }

    // Adds a message and answers it. Throws what the engine and the store throw; the message stays,
    // and the answer so far is kept and marked as failed.
    AnswerReport send(const std::string& text, const OnText& on_text, const Cancelled& cancelled);
    // Answers the newest user message once more. Throws Error{usage} if there is none.
    AnswerReport regenerate(const OnText& on_text, const Cancelled& cancelled);
    // Puts another message in the place of one of the user and answers it.
    AnswerReport edit(int64_t message, const std::string& text, const OnText& on_text,
                      const Cancelled& cancelled);
    // When the context is full: the model itself sums up what was said before the newest user
    // message, and a new branch goes on from the summary with that message; the old branch stays.
    // The summary streams in as a thought. Throws Error{context_full} if not even the beginning
    // of the conversation fits.
    AnswerReport summarise_and_answer(const OnText& on_text, const Cancelled& cancelled);

    // Takes back the newest user message and what came after it; false if there is none. It stays
    // in the tree.
    bool undo();
    // Shows the branch with this message, up to where it was continued last.
    void switch_to(int64_t message);

    const AnswerSettings& settings() const { return settings_; }
    void set_settings(const AnswerSettings& settings);
    void set_system(const std::string& text);
    void set_model(const ModelReference& model);
    void set_title(const std::string& text);  // empty: from the first message

    ContextUsage usage() const;

private:
    AnswerReport answer(int64_t question, const OnText& on_text, const Cancelled& cancelled);
    GenerateOptions generate_options() const;
    ChatPrompt prompt_for(const std::vector<Message>& messages, Thinking thinking) const;
    std::optional<Message> newest_user_message() const;
    size_t n_to_summarise(const std::vector<Message>& messages, int64_t n_room) const;
    int64_t add_summary_branch(const std::string& summary, const std::vector<Message>& kept);
    void restore_state();
    void take_session_back();
    void keep_state_soon(int64_t n_new_tokens);
    void reload() { chat_ = store_.chat(chat_.id); }

    const Engine& engine_;
    Session& session_;
    ChatStore& store_;
    ChatLock lock_;
    Chat chat_;
    AnswerSettings settings_;
    std::tm opened_;  // the templates' clock: stands still, or a new day would change every prompt
    OnPrompt on_prompt_;
    std::filesystem::path state_folder_;
    std::string state_notice_;
    SaveOptions save_options_;
    bool state_is_new_ = false;  // the model has read or written since it was kept
    int64_t n_not_kept_ = 0;     // tokens that it would have to read again after a crash
    BackgroundSave saver_;
};

}  // namespace nemo
