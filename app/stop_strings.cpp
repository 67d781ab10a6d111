#include "app/stop_strings.h"

#include <algorithm>

namespace nemo {

size_t start_of_mark_at_end(std::string_view text, std::string_view mark) {
    for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n)
        if (text.ends_with(mark.substr(0, n))) return n;
    return 0;
}

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
    std::erase(stops_, "");
}

std::string StopStrings::push(std::string_view text) {
    if (stopped_) return "";
    held_ += text;
    size_t first = std::string::npos;
    size_t n_held = 0;
    for (const std::string& stop : stops_) {
        first = std::min(first, held_.find(stop));
        n_held = std::max(n_held, start_of_mark_at_end(held_, stop));
    }
    stopped_ = first != std::string::npos;
    const size_t n_shown = stopped_ ? first : held_.size() - n_held;
    std::string shown = held_.substr(0, n_shown);
    held_.erase(0, n_shown);
    return shown;
}

std::string StopStrings::finish() {
    return stopped_ ? "" : std::move(held_);
}

}  // namespace nemo
