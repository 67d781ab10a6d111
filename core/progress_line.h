// One line on standard error that is rewritten in place; nothing unless that is a terminal.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace nemo {

class ProgressLine {
public:
    ProgressLine();
    // Wipes the line.
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    // True if a new text would be shown now: ten times a second at most. Ask before building it.
    bool due() const;
    void show(std::string_view text);
    double seconds() const;  // since construction
    // "12 s left" if n_left more take as long as n_done did since construction; empty if there is
    // nothing to go by.
    std::string time_left(double n_done, double n_left) const;

private:
    using Clock = std::chrono::steady_clock;
    bool visible_;
    Clock::time_point start_;
    Clock::time_point last_ = {};
    size_t n_shown_ = 0;
};

}  // namespace nemo
