#include "app/prompt_progress.h"

#include "core/console.h"
#include "core/error.h"

namespace nemo {

void PromptProgress::show(int64_t n_read) {
    if (!enabled_) return;
    if (n_read >= n_tokens_) {
        clear();
        return;
    }
    constexpr double kPatienceSeconds = 1.0;
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    if (n_read == 0 || seconds < kPatienceSeconds) return;
    const double rate = static_cast<double>(n_read) / seconds;
    write_stderr(fmt::format("\rreading the prompt: {:3.0f}%, {:.0f} tokens/s, {:.0f} s left   ",
                             100.0 * static_cast<double>(n_read) / static_cast<double>(n_tokens_),
                             rate, static_cast<double>(n_tokens_ - n_read) / rate));
    visible_ = true;
}

void PromptProgress::clear() {
    // Spaces, since not every terminal knows the escape code for it.
    if (visible_) write_stderr("\r" + std::string(60, ' ') + "\r");
    visible_ = false;
}

}  // namespace nemo
