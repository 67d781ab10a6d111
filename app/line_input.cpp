#include "app/line_input.h"

#include "core/console.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/private_file.h"
#include "core/utf8.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <deque>

namespace nemo {

namespace {

constexpr int kMostHistoryLines = 1000;
constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr const char* kPasteBegin = "\x1b[200~";  // what terminals send around pasted text
constexpr const char* kPasteEnd = "\x1b[201~";

// One byte of standard input; -1 at its end, on an error and on Ctrl-C.
int read_byte() {
    while (wait_for_input(STDIN_FILENO)) {
        unsigned char byte = 0;
        const ssize_t n_read = ::read(STDIN_FILENO, &byte, 1);
        if (n_read == 1) return byte;
        if (n_read == 0 || errno != EINTR) return -1;
    }
    return -1;
}

void append_wide(std::wstring& wide, std::string_view text) {
    for (size_t offset = 0; offset < text.size();) {
        const CodePoint code_point = decode_utf8(text, offset);
        wide.push_back(static_cast<wchar_t>(code_point.value));
        offset += static_cast<size_t>(code_point.n_bytes);
    }
}

}  // namespace

// libedit, fed by us, so that Ctrl-C is seen at once and text can be there from the start.
class LineInput::Editor {
public:
    explicit Editor(const std::filesystem::path& history_file);
    ~Editor();

    InputLine read(const std::string& prompt, std::string_view initial);
    void remember(const std::string& text);

private:
    static Editor& of(EditLine* line) {
        void* self = nullptr;
        ::el_get(line, EL_CLIENTDATA, &self);
        return *static_cast<Editor*>(self);
    }
    static char* show_prompt(EditLine* line) { return of(line).prompt_.data(); }
    static int next_character(EditLine* line, wchar_t* character);
    static unsigned char insert_pasted(EditLine* line, wint_t);
    void bind(const char* keys, const char* command) {
        ::el_set(line_, EL_BIND, keys, command, nullptr);
    }

    EditLine* line_;
    History* history_;
    std::string history_file_;
    std::string prompt_;
    std::deque<char> queued_;  // bytes that come before those of the terminal
};

LineInput::Editor::Editor(const std::filesystem::path& history_file)
    : history_(::history_init()), history_file_(history_file.string()) {
    ::setlocale(LC_CTYPE, "C.UTF-8");  // our text is UTF-8, whatever the user's locale
    line_ = ::el_init("nemo-cli", stdin, stderr, stderr);
    if (line_ == nullptr || history_ == nullptr)
        fail(ErrorCode::runtime, "cannot prepare the terminal for typing");
    ::el_set(line_, EL_CLIENTDATA, this);
    ::el_set(line_, EL_PROMPT, show_prompt);
    ::el_set(line_, EL_GETCFN, next_character);
    ::el_set(line_, EL_EDITOR, "emacs");
    ::el_set(line_, EL_ADDFN, "nemo-paste", "insert pasted text", insert_pasted);
    bind("\\e[200~", "nemo-paste");
    bind("^R", "em-inc-search-prev");
    bind("\\e[3~", "ed-delete-next-char");
    bind("\\e[1~", "ed-move-to-beg");
    bind("\\e[4~", "ed-move-to-end");
    bind("\\e[H", "ed-move-to-beg");
    bind("\\e[F", "ed-move-to-end");
    bind("\\e[1;5C", "em-next-word");
    bind("\\e[1;5D", "ed-prev-word");
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, kMostHistoryLines);
    ::history(history_, &event, H_SETUNIQUE, 1);
    ::el_set(line_, EL_HIST, ::history, history_);
    if (history_file_.empty()) return;
    create_private_folder(history_file.parent_path());
    ensure_private_file(history_file);
    ::history(history_, &event, H_LOAD, history_file_.c_str());
}

LineInput::Editor::~Editor() {
    ::history_end(history_);
    ::el_end(line_);
}

int LineInput::Editor::next_character(EditLine* line, wchar_t* character) {
    Editor& self = of(line);
    std::string bytes;
    for (;;) {
        int byte = -1;
        if (self.queued_.empty()) {
            byte = read_byte();
        } else {
            byte = static_cast<unsigned char>(self.queued_.front());
            self.queued_.pop_front();
        }
        if (byte < 0) return interrupted() ? -1 : 0;
        bytes.push_back(static_cast<char>(byte));
        if (incomplete_utf8_tail(bytes) == bytes.size()) continue;
        const CodePoint code_point = decode_utf8(bytes, 0);
        if (!code_point.valid) {
            bytes.clear();  // not text
            continue;
        }
        *character = static_cast<wchar_t>(code_point.value);
        return 1;
    }
}

// Line breaks in pasted text stay in the line instead of ending it.
unsigned char LineInput::Editor::insert_pasted(EditLine* line, wint_t) {
    std::wstring text;
    std::wstring end;
    append_wide(end, kPasteEnd);
    wchar_t character = 0;
    while (!text.ends_with(end)) {
        if (::el_wgetc(line, &character) != 1) return CC_EOF;
        text.push_back(character == L'\r' ? L'\n' : character);
    }
    text.resize(text.size() - end.size());
    if (!text.empty() && ::el_winsertstr(line, text.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
}

InputLine LineInput::Editor::read(const std::string& prompt, std::string_view initial) {
    prompt_ = prompt;
    const std::string pasted =
        initial.empty() ? "" : kPasteBegin + std::string(initial) + kPasteEnd;
    queued_.assign(pasted.begin(), pasted.end());
    ::el_resize(line_);
    ::el_set(line_, EL_PREP_TERM, 1);  // before the prompt says that one may type
    const bool marks_pastes = !environment().dumb_terminal;
    if (marks_pastes) write_stderr("\x1b[?2004h");
    int n_characters = 0;
    const char* text = ::el_gets(line_, &n_characters);
    if (marks_pastes) write_stderr("\x1b[?2004l");
    if (interrupted()) {
        clear_interrupt();
        if (!terminated()) write_stderr("^C\n");
        ::el_reset(line_);
        return {.kind = InputLine::Kind::interrupted};
    }
    if (text == nullptr || n_characters <= 0) {
        write_stderr("\n");
        return {.kind = InputLine::Kind::end};
    }
    std::string line = sanitize_utf8(text);
    if (line.ends_with('\n')) line.pop_back();
    return {.kind = InputLine::Kind::text, .text = std::move(line)};
}

void LineInput::Editor::remember(const std::string& text) {
    HistEvent event;
    ::history(history_, &event, H_ENTER, text.c_str());
    if (!history_file_.empty()) ::history(history_, &event, H_SAVE, history_file_.c_str());
}

LineInput::LineInput(const std::filesystem::path& history_file) {
    if (stdin_is_terminal() && stderr_is_terminal())
        editor_ = std::make_unique<Editor>(history_file);
}

LineInput::~LineInput() = default;

InputLine LineInput::read(const std::string& prompt, std::string_view initial) {
    return editor_ ? editor_->read(prompt, initial) : read_plain();
}

InputLine LineInput::read_plain() {
    size_t searched = 0;
    for (;;) {
        const size_t end = pending_.find('\n', searched);
        if (end != std::string::npos || (at_end_ && !pending_.empty())) {
            InputLine line = {.kind = InputLine::Kind::text,
                              .text = sanitize_utf8(pending_.substr(0, end))};
            pending_.erase(0, end == std::string::npos ? end : end + 1);
            return line;
        }
        if (at_end_) return {.kind = InputLine::Kind::end};
        searched = pending_.size();
        if (searched > kMaxLineBytes)
            fail(ErrorCode::usage, "a line is longer than {} bytes", kMaxLineBytes);
        if (!wait_for_input(STDIN_FILENO)) return {.kind = InputLine::Kind::interrupted};
        char buffer[65536];
        const ssize_t n_read = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (n_read > 0) pending_.append(buffer, static_cast<size_t>(n_read));
        at_end_ = n_read == 0 || (n_read < 0 && errno != EINTR);
    }
}

void LineInput::remember(const std::string& text) {
    if (editor_) editor_->remember(text);
}

InputLine read_message(LineInput& input, const std::string& prompt, std::string_view initial) {
    constexpr std::string_view kQuotes = "\"\"\"";
    const std::string more = ". ";
    InputLine line = input.read(prompt, initial);
    if (line.kind != InputLine::Kind::text) return line;
    std::string& text = line.text;
    const bool quoted = text.starts_with(kQuotes);
    if (quoted) text.erase(0, kQuotes.size());
    while (quoted ? !text.ends_with(kQuotes) : text.ends_with('\\')) {
        const InputLine next = input.read(more);
        if (next.kind == InputLine::Kind::interrupted) return next;
        if (next.kind == InputLine::Kind::end) return line;
        if (!quoted) text.pop_back();
        text += (quoted && text.empty() ? "" : "\n") + next.text;
    }
    if (quoted) {
        text.resize(text.size() - kQuotes.size());
        if (text.ends_with('\n')) text.pop_back();
    }
    return line;
}

}  // namespace nemo
