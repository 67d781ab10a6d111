// Where typed text comes from: an editable line with history on a terminal, else standard input
// line by line.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace nemo {

struct InputLine {
    enum class Kind { text, interrupted, end } kind = Kind::end;  // interrupted: Ctrl-C
    std::string text;  // valid UTF-8, without the line break at its end
};

class LineInput {
public:
    // Edits lines if standard input and standard error are terminals. The history is kept in this
    // file, unless the name is empty.
    explicit LineInput(const std::filesystem::path& history_file);
    ~LineInput();
    LineInput(const LineInput&) = delete;
    LineInput& operator=(const LineInput&) = delete;

    bool is_interactive() const { return editor_ != nullptr; }
    // `prompt` and `initial`, the text to start with, are for a terminal. Ctrl-C drops the line.
    InputLine read(const std::string& prompt, std::string_view initial = {});
    // Adds to the history.
    void remember(const std::string& text);

private:
    class Editor;
    InputLine read_plain();

    std::unique_ptr<Editor> editor_;
    std::string pending_;  // read, but behind the line's end
    bool at_end_ = false;
};

// A whole message: one line, or several if each but the last ends with a backslash, or what stands
// between """ and """.
InputLine read_message(LineInput& input, const std::string& prompt, std::string_view initial = {});

}  // namespace nemo
