#include "app/prompt_progress.h"

#include <fmt/core.h>

namespace nemo {

void PromptProgress::show(int64_t n_done, int64_t n_prompt) {
    constexpr double kPatienceSeconds = 1.0;
    if (!is_wanted_) return;
    if (n_done >= n_prompt) {
        line_.reset();
        return;
    }
    if (!line_) {
        line_.emplace();
        n_at_start_ = n_done;
    }
    const auto n_read = static_cast<double>(n_done - n_at_start_);
    if (n_read <= 0 || line_->seconds() < kPatienceSeconds || !line_->due()) return;
    line_->show(fmt::format("reading: {:3.0f}%, {:.0f} tokens/s, {}",
                            100.0 * static_cast<double>(n_done) / static_cast<double>(n_prompt),
                            n_read / line_->seconds(),
                            line_->time_left(n_read, static_cast<double>(n_prompt - n_done))));
}

}  // namespace nemo
