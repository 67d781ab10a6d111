#include "app/prompt_input.h"

#include "core/console.h"
#include "core/error.h"
#include "core/utf8.h"

namespace nemo {

namespace {

std::string without_last_newline(std::string text) {
    if (text.ends_with('\n')) text.pop_back();
    return text;
}

void append_part(std::string& prompt, const std::string& part) {
    if (!prompt.empty() && !part.empty()) prompt += '\n';
    prompt += part;
}

}  // namespace

std::string gather_prompt(const std::optional<std::string>& text, const std::string& file,
                          bool quiet) {
    std::string prompt;
    if (file == "-" || (stdin_is_open() && !stdin_is_terminal()))
        prompt = without_last_newline(read_stdin(quiet));
    if (!file.empty() && file != "-")
        append_part(prompt, without_last_newline(read_text_file(file)));
    if (text) append_part(prompt, sanitize_utf8(*text));
    if (prompt.empty())
        fail(ErrorCode::usage, "the prompt is empty: give -p TEXT, -f FILE or pipe text in");
    return prompt;
}

}  // namespace nemo
