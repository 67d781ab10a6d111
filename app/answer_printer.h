// An answer on the terminal as it streams in. Standard output carries the answer alone; thoughts go
// to standard error, dimmed, and only if that is a terminal.
#pragma once

#include "app/reasoning.h"

namespace nemo {

class AnswerPrinter {
public:
    explicit AnswerPrinter(bool shows_thoughts);

    void show(TextPart part, std::string_view text);
    // Ends the last line of what was shown.
    void finish();

private:
    bool shows_thoughts_;
    bool has_thought_ = false;
    bool has_answer_ = false;
};

// Secondary text for standard error: dimmed where that is wanted and possible.
std::string dimmed(std::string_view text);

}  // namespace nemo
