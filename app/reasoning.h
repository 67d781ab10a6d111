// Separates what a thinking model thinks from what it answers, while the text streams in.
//
// A thought stands at the beginning, between <think> and </think>; the opening mark may already be
// the end of the prompt. The marks may arrive in any number of pieces, so text that could be the
// start of one is held back. White space around a thought belongs to nobody and is dropped.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace nemo {

inline constexpr std::string_view kThoughtOpen = "<think>";
inline constexpr std::string_view kThoughtClose = "</think>";

enum class TextPart { thought, answer };

class ReasoningSplitter {
public:
    // `opened`: the prompt ends with the opening mark.
    explicit ReasoningSplitter(bool opened) : state_(opened ? State::thought : State::start) {}

    using Sink = std::function<void(TextPart, std::string_view)>;
    // Takes in new text and hands out, in order, what is certain by now; never an empty piece.
    void push(std::string_view text, const Sink& sink);
    // Hands out what was held back, once no more will come.
    void finish(const Sink& sink);

    bool in_thought() const { return state_ == State::thought; }

private:
    enum class State { start, thought, answer };

    bool open_or_answer();
    bool take_thought(const Sink& sink);
    void drop_white_space();

    State state_;
    bool drops_white_space_ = true;  // at the beginning of a thought, or of the answer after one
    std::string held_;
};

// Whether a prompt's text ends with the opening mark of a thought, white space aside.
bool ends_inside_thought(std::string_view prompt);

}  // namespace nemo
