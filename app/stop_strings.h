// Ends a streamed answer at any of several texts, none of which may reach the reader. Text that
// could be the start of one is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemo {

// How many bytes at the end of `text` could be the start of `mark`, which has at least one byte.
size_t start_of_mark_at_end(std::string_view text, std::string_view mark);

class StopStrings {
public:
    explicit StopStrings(std::vector<std::string> stops);

    // Takes in new text and returns what can be shown now. After stopped(), nothing more.
    std::string push(std::string_view text);
    // The held-back text, once no more will come.
    std::string finish();
    bool stopped() const { return stopped_; }

private:
    std::vector<std::string> stops_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace nemo
