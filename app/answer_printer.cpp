#include "app/answer_printer.h"

#include "core/console.h"
#include "core/environment.h"

namespace nemo {

AnswerPrinter::AnswerPrinter(bool shows_thoughts)
    : shows_thoughts_(shows_thoughts && stderr_is_terminal()) {}

void AnswerPrinter::show(TextPart part, std::string_view text) {
    if (part == TextPart::thought) {
        if (!shows_thoughts_) return;
        has_thought_ = true;
        write_stderr(dimmed(terminal_safe(text)));
        return;
    }
    if (has_thought_ && !has_answer_) write_stderr("\n\n");
    has_answer_ = true;
    write_stdout_text(text);
}

void AnswerPrinter::finish() {
    if (has_thought_ && !has_answer_) write_stderr("\n");
    write_stdout("\n");
}

std::string dimmed(std::string_view text) {
    if (!stderr_is_terminal() || environment().no_color) return std::string(text);
    return "\x1b[2m" + std::string(text) + "\x1b[0m";
}

}  // namespace nemo
