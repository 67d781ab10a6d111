// Text that remembers who wrote it. A chat prompt mixes the template's own markup (trusted: it may
// contain control tokens) with what a user, a file or the model wrote (never a control token).
#pragma once

#include <string>
#include <vector>

namespace nemo {

struct TextSegment {
    std::string text;      // may start or end anywhere, even inside a word; whole code points
    bool trusted = false;  // true: written by the template, control tokens are recognised

    bool operator==(const TextSegment&) const = default;
};

// Consecutive segments form one text: tokens may cross a border between segments, but a control
// token is recognised only where every byte of it is trusted.
using MarkedText = std::vector<TextSegment>;

inline std::string plain_text(const MarkedText& marked) {
    std::string text;
    for (const TextSegment& segment : marked) text += segment.text;
    return text;
}

}  // namespace nemo
