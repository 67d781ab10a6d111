#include "core/progress_line.h"

#include "core/console.h"

#include <fmt/core.h>

namespace nemo {

ProgressLine::ProgressLine() : visible_(stderr_is_terminal()), start_(Clock::now()) {}

ProgressLine::~ProgressLine() {
    if (n_shown_ > 0) write_stderr(fmt::format("\r{:<{}}\r", "", n_shown_));
}

bool ProgressLine::due() const {
    return visible_ && Clock::now() - last_ >= std::chrono::milliseconds(100);
}

void ProgressLine::show(std::string_view text) {
    if (!visible_) return;
    last_ = Clock::now();
    write_stderr(fmt::format("\r{:<{}}", text, n_shown_));
    n_shown_ = text.size();
}

double ProgressLine::seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
}

std::string ProgressLine::time_left(double n_done, double n_left) const {
    return n_done > 0 ? fmt::format("{:.0f} s left", seconds() / n_done * n_left) : "";
}

}  // namespace nemo
