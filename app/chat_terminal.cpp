#include "app/chat_terminal.h"

#include "app/answer_printer.h"
#include "app/chat_commands.h"
#include "app/chat_text.h"
#include "app/prompt_progress.h"
#include "app/state_folder.h"
#include "core/console.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/interrupt.h"

#include <filesystem>

namespace nemo {

namespace {

std::filesystem::path history_file() {
    const std::filesystem::path& folder = environment().state_folder;
    return folder.empty() ? folder : folder / "history";
}

}  // namespace

ChatTerminal::ChatTerminal(const ChatCommand& command)
    : command_(command),
      store_(ChatStore::open_named(command.chats_file, true)),
      state_folder_(state_folder_of(command.chats_file)),
      input_(history_file()),
      shows_thoughts_(!command.hide_thinking && !command.quiet),
      shows_footer_(!command.quiet && (command.verbose || input_.is_interactive())) {
    for (const std::string& notice : store_.notices()) say(notice);
    const int64_t id = chosen_chat();
    if (id != 0 && command_.model.path.empty()) command_.model.path = store_.chat(id).model.path;
    if (command_.model.path.empty()) fail(ErrorCode::usage, "which model? Give -m MODEL.gguf");
    open_model();
    if (id == 0)
        open_new_chat();
    else
        open_chat(id);
}

ChatTerminal::~ChatTerminal() {
    try {
        if (!chat_) return;
        chat_->keep_state();
        if (!chat_->state_notice().empty()) say(terminal_safe_line(chat_->state_notice()));
        const int64_t id = chat_->id();
        chat_.reset();
        purge_if_empty(id);
    } catch (const std::exception& error) {
        report_exception("nemo-cli", error);
    }
}

// 0: a new one.
int64_t ChatTerminal::chosen_chat() const {
    if (command_.chat != 0) return store_.chat(command_.chat).id;
    if (!command_.continues) return 0;
    const std::vector<Chat> chats = store_.chats({.limit = 1, .pinned_first = false});
    if (chats.empty()) fail(ErrorCode::usage, "there is no chat to continue");
    return chats.front().id;
}

void ChatTerminal::open_model() {
    const ModelOptions& model = command_.model;
    engine_ = std::make_unique<Engine>(model.path, model.threads, model.load);
    if (model.no_speculation) engine_->set_speculation(SpeculationMode::off);
    if (!model.template_file.empty())
        engine_->set_chat_template(read_text_file(model.template_file), model.template_file);
    session_ = std::make_unique<Session>(engine_->model(),
                                         SessionOptions{.n_context = model.n_context,
                                                        .kv_types = model.kv_types,
                                                        .state_budget = model.state_budget,
                                                        .spill_folder = state_folder_});
}

ModelReference ChatTerminal::model_reference() const {
    return {.path = std::filesystem::absolute(command_.model.path).string(),
            .name = engine_->model().config().name};
}

void ChatTerminal::open_new_chat() {
    const int64_t id = store_.create_chat({.system = command_.system.value_or(""),
                                           .model = model_reference(),
                                           .settings = settings_to_json(command_.answer)});
    change_chat(id);
}

void ChatTerminal::open_chat(int64_t id) {
    if (chat_ && chat_->id() == id) return;
    change_chat(id);
    // The one to go on with next time.
    if (chat_->chat().model != model_reference()) chat_->set_model(model_reference());
    chat_->set_settings(merge_settings(chat_->settings(), command_.answer));
    if (command_.system) chat_->set_system(*command_.system);
}

void ChatTerminal::change_chat(int64_t id) {
    if (chat_) chat_->keep_state();  // before the session turns to the other one
    auto opened = std::make_unique<Conversation>(*engine_, *session_, store_, id, state_folder_,
                                                 command_.model.state_form);
    const int64_t old = chat_ ? chat_->id() : 0;
    chat_ = std::move(opened);
    if (!chat_->state_notice().empty()) say(terminal_safe_line(chat_->state_notice()));
    if (old != 0) purge_if_empty(old);
}

// A chat in which nobody said anything does not stay.
void ChatTerminal::purge_if_empty(int64_t id) {
    if (!store_.children(id, 0).empty()) return;
    store_.delete_chat(id);
    store_.purge_chat(id);
    remove_state(state_folder_, id);
}

void ChatTerminal::say(std::string_view text) const {
    if (!command_.quiet) write_stderr(std::string(text) + "\n");
}

void ChatTerminal::print(std::string_view text) const {
    const char* end = text.ends_with('\n') ? "" : "\n";
    write_stderr(terminal_safe(text) + end);
}

void ChatTerminal::greet() {
    if (!input_.is_interactive()) return;
    say(dimmed(fmt::format("{}, context of {} tokens. /help lists commands, Ctrl-D leaves.",
                           terminal_safe_line(engine_->model().config().name),
                           session_->n_context())));
    const std::vector<Message> messages = chat_->messages();
    if (messages.empty()) return;
    say(dimmed(fmt::format("Chat {}: {}, {} messages. The last:", chat_->id(),
                           terminal_safe_line(chat_->chat().title), messages.size())));
    const size_t first = messages.size() >= 2 ? messages.size() - 2 : 0;
    for (size_t i = first; i < messages.size(); ++i)
        say(dimmed((messages[i].role == "user" ? "> " : "") + terminal_safe(messages[i].content)));
}

int ChatTerminal::run() {
    install_termination_handler();
    greet();
    while (!leaves_ && !terminated()) {
        const InputLine message = read_message(input_, "> ");
        if (message.kind == InputLine::Kind::end) break;
        if (message.kind == InputLine::Kind::interrupted) {
            if (terminated()) break;
            if (input_.is_interactive()) continue;
            return static_cast<int>(ErrorCode::interrupted);
        }
        if (message.text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
        try {
            input_.remember(message.text);
            take(message.text);
        } catch (const std::exception& error) {
            const int status = report_exception("nemo-cli", error);
            if (!input_.is_interactive()) return status;
            clear_interrupt();
        }
    }
    return 0;
}

// Two slashes begin a message that begins with one.
void ChatTerminal::take(const std::string& text) {
    if (text.starts_with('/') && !text.starts_with("//")) return run_chat_command(*this, text);
    const std::string message = text.starts_with("//") ? text.substr(1) : text;
    answer([&](const auto& on_text, const auto& cancelled) {
        return chat_->send(message, on_text, cancelled);
    });
}

void ChatTerminal::answer(const Answering& answering) {
    AnswerPrinter printer(shows_thoughts_);
    PromptProgress progress(!command_.quiet);
    chat_->set_on_prompt(
        [&](int64_t n_done, int64_t n_prompt) { progress.show(n_done, n_prompt); });
    last_report_ = answering(
        [&](TextPart part, std::string_view text) { printer.show(part, text); }, interrupted);
    printer.finish();
    after_answer(last_report_);
}

void ChatTerminal::after_answer(const AnswerReport& report) {
    const bool stopped = report.reason == FinishReason::cancelled;
    if (terminated()) return;
    if (stopped && !input_.is_interactive()) fail(ErrorCode::interrupted, "interrupted");
    if (stopped) clear_interrupt();
    if (shows_footer_) say(dimmed(footer_text(report, chat_->usage())) + "\n");
    if (report.only_thought() && report.reason == FinishReason::stop)
        say("The model ended without an answer after its thought; /regen lets it try again.");
    if (report.reason == FinishReason::context_full) offer_summary(report);
}

void ChatTerminal::offer_summary(const AnswerReport& report) {
    const std::string what =
        fmt::format("{} the context of {} tokens",
                    report.n_generated > 0 ? "The answer has filled" : "The chat does not fit into",
                    session_->n_context());
    if (!input_.is_interactive()) fail(ErrorCode::context_full, "{}", what);
    say(what + ".");
    const InputLine reply =
        input_.read("Let the model summarise the older part and answer in a new branch? [y/N] ");
    if (reply.kind == InputLine::Kind::text && (reply.text == "y" || reply.text == "Y")) {
        answer([&](const auto& on_text, const auto& cancelled) {
            return chat_->summarise_and_answer(on_text, cancelled);
        });
        return;
    }
    say("Nothing is lost. /summarise does it later, /undo takes the message back, /new begins "
        "another chat.");
}

}  // namespace nemo
