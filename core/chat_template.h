// Chat templates: a sandboxed interpreter for the subset of Jinja that published models use.
//
// The output remembers the origin of every character (MarkedText): what the template wrote is
// trusted, what came in through messages, tools and variables is not, and string operations keep
// the marks. So a `<|im_end|>` typed by a user can never become a control token. No I/O, no
// recursion without bound: steps, depth and output are limited.
#pragma once

#include "core/json.h"
#include "core/marked_text.h"

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

namespace nemo {

struct TemplateLimits {
    // A step is one node evaluated, a few list elements or 64 bytes copied: 10^7 take about a
    // second.
    int64_t max_steps = 10'000'000;
    int max_depth = 200;                         // of tags and expressions, and of macro calls
    size_t max_output_bytes = size_t{64} << 20;  // of any one string, the output included
};

struct TemplateInput {
    Json messages;  // array of {role, content, ...}
    Json tools;     // array or null
    bool add_generation_prompt = true;
    // Further variables (enable_thinking, ...); they win over the three above, and `documents` is
    // none unless it is one of them, as in Hugging Face's apply_chat_template. Strings named
    // bos_token, eos_token, unk_token and pad_token are trusted; everything else is not.
    Json::Object variables;
    std::tm now = {};  // the clock of strftime_now
};

class ChatTemplate {
public:
    // Throws Error{bad_file} "SOURCE:LINE:COLUMN: ..." if the text is not in the subset.
    static ChatTemplate compile(std::string_view source_text, std::string_view source_name,
                                const TemplateLimits& limits = {});
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;
    ChatTemplate& operator=(ChatTemplate&&) noexcept;

    // Throws Error{bad_file} with line and column; raise_exception's text is the message.
    MarkedText render(const TemplateInput& input) const;

private:
    struct Impl;
    explicit ChatTemplate(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace nemo
