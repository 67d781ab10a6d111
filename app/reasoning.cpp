#include "app/reasoning.h"

#include "app/stop_strings.h"

#include <algorithm>

namespace nemo {

namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";

size_t without_white_space_at_end(std::string_view text) {
    const size_t last = text.find_last_not_of(kWhiteSpace);
    return last == std::string_view::npos ? 0 : last + 1;
}

}  // namespace

void ReasoningSplitter::push(std::string_view text, const Sink& sink) {
    held_ += text;
    if (state_ == State::start && !open_or_answer()) return;
    if (state_ == State::thought && !take_thought(sink)) return;
    if (drops_white_space_) drop_white_space();
    if (held_.empty()) return;
    drops_white_space_ = false;
    sink(TextPart::answer, held_);
    held_.clear();
}

// True once it is known what the text begins with.
bool ReasoningSplitter::open_or_answer() {
    const size_t first = std::min(held_.find_first_not_of(kWhiteSpace), held_.size());
    const std::string_view text = std::string_view(held_).substr(first);
    if (text.starts_with(kThoughtOpen)) {
        held_.erase(0, first + kThoughtOpen.size());
        state_ = State::thought;
        return true;
    }
    if (kThoughtOpen.starts_with(text)) return false;
    state_ = State::answer;
    drops_white_space_ = false;
    return true;
}

// True once the thought has ended.
bool ReasoningSplitter::take_thought(const Sink& sink) {
    if (drops_white_space_) drop_white_space();
    const size_t end = held_.find(kThoughtClose);
    const bool closed = end != std::string::npos;
    const size_t n_text = closed ? end : held_.size() - start_of_mark_at_end(held_, kThoughtClose);
    const size_t n_shown = without_white_space_at_end(std::string_view(held_).substr(0, n_text));
    if (n_shown > 0) {
        sink(TextPart::thought, std::string_view(held_).substr(0, n_shown));
        drops_white_space_ = false;
    }
    held_.erase(0, closed ? end + kThoughtClose.size() : n_shown);
    if (!closed) return false;
    state_ = State::answer;
    drops_white_space_ = true;
    return true;
}

void ReasoningSplitter::drop_white_space() {
    held_.erase(0, std::min(held_.find_first_not_of(kWhiteSpace), held_.size()));
}

void ReasoningSplitter::finish(const Sink& sink) {
    const TextPart part = in_thought() ? TextPart::thought : TextPart::answer;
    if (in_thought()) held_.resize(without_white_space_at_end(held_));
    if (!held_.empty()) sink(part, held_);
    held_.clear();
}

bool ends_inside_thought(std::string_view prompt) {
    return prompt.substr(0, without_white_space_at_end(prompt)).ends_with(kThoughtOpen);
}

}  // namespace nemo
