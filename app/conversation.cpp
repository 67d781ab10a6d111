#include "app/conversation.h"

#include "app/state_folder.h"
#include "core/error.h"

#include <algorithm>
#include <chrono>

namespace nemo {

namespace {

using Clock = std::chrono::steady_clock;

// Saved in an instant, so after every answer at once.
constexpr int64_t kMostBytesToKeepAtOnce = int64_t{4} << 20;
// Larger states are hundreds of megabytes: written in the background when a crash would cost so
// many tokens.
constexpr int64_t kTokensWorthKeeping = 512;
constexpr uint64_t kMostStateFolderBytes = uint64_t{8} << 30;
constexpr const char* kSummaryRequest =
    "Summarise our conversation so far, so that it can be continued from your summary alone: "
    "facts, names, numbers, decisions and open questions. Write the summary only.";
constexpr const char* kSummaryTitle = "Summary of the conversation so far:\n";

ChatLock lock_or_fail(const ChatStore& store, int64_t chat) {
    std::optional<ChatLock> lock = store.lock_chat(chat);
    if (!lock) fail(ErrorCode::usage, "chat {} is open elsewhere", chat);
    return std::move(*lock);
}

Json stats_of(const GenerateResult& result) {
    return Json::Object{{"finish_reason", finish_reason_name(result.reason)},
                        {"n_reused", result.n_reused},
                        {"n_read", result.n_read},
                        {"prompt_seconds", result.prompt_seconds},
                        {"n_generated", result.n_generated},
                        {"n_drafted", result.n_drafted},
                        {"n_accepted", result.n_accepted},
                        {"generate_seconds", result.generate_seconds}};
}

MessageState state_of(FinishReason reason) {
    const bool whole = reason == FinishReason::stop || reason == FinishReason::length;
    return whole ? MessageState::complete : MessageState::interrupted;
}

// An answer that grows in the store.
class StoredAnswer {
public:
    StoredAnswer(ChatStore& store, int64_t chat, int64_t question)
        : store_(store),
          id_(store.add_message(
              chat, {.parent = question, .role = "assistant", .state = MessageState::streaming})) {}

    int64_t id() const { return id_; }

    void append(TextPart part, std::string_view text) {
        (part == TextPart::thought ? so_far_.reasoning : so_far_.content) += text;
        constexpr std::chrono::milliseconds kBetweenWrites(500);
        if (Clock::now() - written_ < kBetweenWrites) return;
        store_.update_answer(id_, so_far_);
        written_ = Clock::now();
    }
    void finish(MessageState state, Json stats) {
        so_far_.state = state;
        so_far_.stats = std::move(stats);
        store_.update_answer(id_, so_far_);
    }

private:
    ChatStore& store_;
    int64_t id_;
    AnswerUpdate so_far_;
    Clock::time_point written_ = Clock::now();
};

}  // namespace

Conversation::Conversation(const Engine& engine, Session& session, ChatStore& store, int64_t chat,
                           std::filesystem::path state_folder, StateCoding coding)
    : engine_(engine),
      session_(session),
      store_(store),
      lock_(lock_or_fail(store, chat)),
      chat_(store.chat(chat)),
      settings_(settings_from_json(chat_.settings)),
      opened_(local_now()),
      state_folder_(std::move(state_folder)),
      save_options_{.coding = coding},
      saver_(session) {
    restore_state();
}

Conversation::~Conversation() {
    keep_state();
}

void Conversation::restore_state() {
    if (state_folder_.empty()) return;
    try {
        const std::filesystem::path file = state_file(state_folder_, chat_.id);
        if (std::filesystem::exists(file)) session_.restore(file);
    } catch (const std::exception& error) {
        state_notice_ = fmt::format("The chat will be read again: {}", error.what());
    }
}

void Conversation::keep_state() {
    if (state_folder_.empty() || !state_is_new_) return;
    state_is_new_ = false;
    n_not_kept_ = 0;
    if (saver_.finish()) return;
    try {
        const std::filesystem::path file = state_file(state_folder_, chat_.id);
        session_.save(file, save_options_);
        trim_state_folder(state_folder_, file, kMostStateFolderBytes);
        state_notice_.clear();
    } catch (const std::exception& error) {
        state_notice_ = fmt::format("The chat will be read again next time: {}", error.what());
    }
}

void Conversation::take_session_back() {
    if (saver_.stop()) n_not_kept_ = 0;
}

void Conversation::keep_state_soon(int64_t n_new_tokens) {
    n_not_kept_ += n_new_tokens;
    const ContextUsage now = usage();
    if (now.state_bytes + now.cache_bytes <= kMostBytesToKeepAtOnce) return keep_state();
    if (state_folder_.empty() || n_not_kept_ < kTokensWorthKeeping) return;
    try {
        const std::filesystem::path file = state_file(state_folder_, chat_.id);
        saver_.start(file, save_options_, [folder = state_folder_, file] {
            trim_state_folder(folder, file, kMostStateFolderBytes);
        });
    } catch (const std::exception& error) {
        state_notice_ = fmt::format("The chat will be read again next time: {}", error.what());
    }
}

AnswerReport Conversation::send(const std::string& text, const OnText& on_text,
                                const Cancelled& cancelled) {
    const int64_t question =
        store_.add_message(chat_.id, {.parent = chat_.leaf, .role = "user", .content = text});
    return answer(question, on_text, cancelled);
}

AnswerReport Conversation::regenerate(const OnText& on_text, const Cancelled& cancelled) {
    const std::optional<Message> question = newest_user_message();
    if (!question) fail(ErrorCode::usage, "there is no message to answer");
    return answer(question->id, on_text, cancelled);
}

AnswerReport Conversation::edit(int64_t message, const std::string& text, const OnText& on_text,
                                const Cancelled& cancelled) {
    const Message old = store_.message(message);
    if (old.chat != chat_.id || old.role != "user")
        fail(ErrorCode::usage, "message {} is not one of yours in this chat", message);
    const int64_t question =
        store_.add_message(chat_.id, {.parent = old.parent, .role = "user", .content = text});
    return answer(question, on_text, cancelled);
}

AnswerReport Conversation::answer(int64_t question, const OnText& on_text,
                                  const Cancelled& cancelled) {
    StoredAnswer stored(store_, chat_.id, question);
    reload();
    take_session_back();
    state_is_new_ = true;
    const auto on_piece = [&](TextPart part, std::string_view text) {
        stored.append(part, text);
        on_text(part, text);
    };
    try {
        const ChatPrompt prompt =
            prompt_for(store_.path_to(question), settings_.effective_thinking());
        GenerateResult result =
            engine_.generate(session_, prompt, generate_options(), on_piece, cancelled);
        stored.finish(state_of(result.reason), stats_of(result));
        session_.prepare();
        keep_state_soon(result.n_read + result.n_generated);
        return {std::move(result), stored.id()};
    } catch (const std::exception& error) {
        stored.finish(MessageState::failed, Json::Object{{"error", error.what()}});
        const auto* known = dynamic_cast<const Error*>(&error);
        if (known == nullptr || known->code() != ErrorCode::context_full) throw;
        return {{.reason = FinishReason::context_full}, stored.id()};
    }
}

GenerateOptions Conversation::generate_options() const {
    GenerateOptions options = settings_.generate_options(engine_.default_sampling());
    options.on_prompt = on_prompt_;
    return options;
}

// The chat's own system prompt and a summary at the beginning of a branch make one system message.
ChatPrompt Conversation::prompt_for(const std::vector<Message>& messages, Thinking thinking) const {
    std::string system = chat_.system;
    Json::Array json;
    for (const Message& message : messages) {
        if (message.role == "system") {
            system += (system.empty() ? "" : "\n\n") + message.content;
            continue;
        }
        Json::Object object = {{"role", message.role}, {"content", message.content}};
        if (!message.reasoning.empty()) object.emplace_back("reasoning_content", message.reasoning);
        json.push_back(std::move(object));
    }
    if (!system.empty())
        json.insert(json.begin(), Json::Object{{"role", "system"}, {"content", system}});
    return engine_.chat_prompt(json, {.thinking = thinking, .now = opened_});
}

std::optional<Message> Conversation::newest_user_message() const {
    const std::vector<Message> shown = messages();
    const auto found = std::ranges::find(shown.rbegin(), shown.rend(), "user", &Message::role);
    return found == shown.rend() ? std::nullopt : std::optional(*found);
}

AnswerReport Conversation::summarise_and_answer(const OnText& on_text, const Cancelled& cancelled) {
    const std::optional<Message> question = newest_user_message();
    if (!question || question->parent == 0)
        fail(ErrorCode::context_full, "there is nothing before the newest message to summarise");
    constexpr int64_t kMostSummaryTokens = 512;
    const int64_t n_room = std::min(kMostSummaryTokens, session_.n_context() / 4);
    std::vector<Message> before = store_.path_to(question->parent);
    const size_t n_old = n_to_summarise(before, n_room);

    std::vector<Message> kept(before.begin() + static_cast<int64_t>(n_old), before.end());
    kept.push_back(*question);
    before.resize(n_old);
    before.push_back({.role = "user", .content = kSummaryRequest});
    GenerateOptions options = generate_options();
    options.max_tokens = n_room;
    options.reasoning_budget = 0;
    take_session_back();
    GenerateResult summary = engine_.generate(
        session_, prompt_for(before, Thinking::off), options,
        [&](TextPart, std::string_view text) { on_text(TextPart::thought, text); }, cancelled);
    if (summary.reason == FinishReason::cancelled) return {std::move(summary), 0};
    return answer(add_summary_branch(summary.text, kept), on_text, cancelled);
}

// As many of the first messages, up to an answer, as can be read with the request and leave room
// for the summary.
size_t Conversation::n_to_summarise(const std::vector<Message>& messages, int64_t n_room) const {
    for (size_t n = messages.size(); n > 0; --n) {
        if (messages[n - 1].role != "assistant") continue;
        std::vector<Message> old(messages.begin(), messages.begin() + static_cast<int64_t>(n));
        old.push_back({.role = "user", .content = kSummaryRequest});
        const ChatPrompt prompt = prompt_for(old, Thinking::off);
        if (std::ssize(prompt.ids) + n_room <= session_.n_context()) return n;
    }
    fail(ErrorCode::context_full, "the context of {} tokens is too small to summarise the chat",
         session_.n_context());
}

// Returns the copy of the last of `kept`, which is the newest user message.
int64_t Conversation::add_summary_branch(const std::string& summary,
                                         const std::vector<Message>& kept) {
    int64_t last =
        store_.add_message(chat_.id, {.role = "system", .content = kSummaryTitle + summary});
    for (const Message& message : kept)
        last = store_.add_message(chat_.id, {.parent = last,
                                             .role = message.role,
                                             .content = message.content,
                                             .reasoning = message.reasoning,
                                             .state = message.state});
    return last;
}

bool Conversation::undo() {
    const std::optional<Message> question = newest_user_message();
    if (!question) return false;
    store_.set_leaf(chat_.id, question->parent);
    reload();
    return true;
}

void Conversation::switch_to(int64_t message) {
    if (store_.message(message).chat != chat_.id)
        fail(ErrorCode::usage, "message {} belongs to another chat", message);
    store_.set_leaf(chat_.id, store_.latest_leaf(message));
    reload();
}

void Conversation::set_settings(const AnswerSettings& settings) {
    // Names that are not ours belong to another front end.
    const AnswerSettings none;
    Json::Object json = chat_.settings.is_object() ? chat_.settings.object() : Json::Object{};
    for (const auto& [name, value] : list_settings(none))
        std::erase_if(json, [&](const Json::Member& member) { return member.first == name; });
    for (Json::Member& member : settings_to_json(settings)) json.push_back(std::move(member));
    store_.set_settings(chat_.id, json);
    settings_ = settings;
    reload();
}

void Conversation::set_system(const std::string& text) {
    store_.set_system(chat_.id, text);
    reload();
}

void Conversation::set_model(const ModelReference& model) {
    store_.set_model(chat_.id, model);
    reload();
}

void Conversation::set_title(const std::string& text) {
    store_.set_title(chat_.id, text);
    reload();
}

ContextUsage Conversation::usage() const {
    const Model& model = engine_.model();
    const int64_t n_used = session_.state().position();
    return {.n_used = n_used,
            .n_context = session_.n_context(),
            .weight_bytes = static_cast<int64_t>(model.file().n_file_bytes()),
            .state_bytes = recurrent_state_bytes(model.config()),
            .cache_bytes = n_used * session_.state().page_layout().token_bytes(),
            .checkpoint_bytes = session_.n_kept_bytes(),
            .spilled_bytes = session_.checkpoints().n_spilled_bytes(),
            .spill_problem = session_.checkpoints().spill_problem()};
}

}  // namespace nemo
