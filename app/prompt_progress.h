// A line on the terminal while a long prompt is being read; nothing for a short one.
#pragma once

#include <chrono>
#include <cstdint>

namespace nemo {

class PromptProgress {
public:
    // Disabled: does nothing.
    PromptProgress(bool enabled, int64_t n_tokens) : enabled_(enabled), n_tokens_(n_tokens) {}
    ~PromptProgress() { clear(); }
    PromptProgress(const PromptProgress&) = delete;
    PromptProgress& operator=(const PromptProgress&) = delete;

    // `n_read` tokens are done. Removes the line once all are.
    void show(int64_t n_read);

private:
    using Clock = std::chrono::steady_clock;
    void clear();

    bool enabled_;
    bool visible_ = false;
    int64_t n_tokens_;
    Clock::time_point start_ = Clock::now();
};

}  // namespace nemo
