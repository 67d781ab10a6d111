#include "app/stop_strings.h"

#include <algorithm>

namespace nemo {

namespace {

// The longest end of `text` that is a proper start of `stop`.
size_t overlap(std::string_view text, std::string_view stop) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
        if (text.ends_with(stop.substr(0, n))) return n;
    return 0;
}

}  // namespace

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
        n_held = std::max(n_held, overlap(held_, stop));
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
