// How far a long prompt is read: one line on standard error, if that is a terminal and it takes a
// while.
#pragma once

#include "core/progress_line.h"

#include <cstdint>
#include <optional>

namespace nemo {

class PromptProgress {
public:
    explicit PromptProgress(bool is_wanted) : is_wanted_(is_wanted) {}
    // Before each chunk and at the end, when the line is wiped.
    void show(int64_t n_done, int64_t n_prompt);

private:
    bool is_wanted_;
    int64_t n_at_start_ = 0;  // tokens that needed no reading
    std::optional<ProgressLine> line_;
};

}  // namespace nemo
