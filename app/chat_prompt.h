// A conversation as token ids, through the chat template of a model, with the positions where a
// session should keep checkpoints.
//
// The templates of thinking models rewrite history: the prompt of the next turn differs from what
// the model has read right after the newest user message, because thoughts are dropped and spaces
// trimmed. A recurrent state cannot be cut back, so the positions to come back to are found here,
// by rendering the same conversation in the ways it may go on and comparing token ids.
#pragma once

#include "core/chat_template.h"
#include "core/error.h"
#include "core/tokenizer.h"

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace nemo {

enum class Thinking { automatic, on, off };  // automatic: as the template has it by default

// How a template lets one choose. Found out by trying, not by reading it.
enum class ThinkingControl {
    none,
    variable,  // enable_thinking
    words,     // "/think" and "/no_think" in a message, which the template removes
};

struct PromptOptions {
    Thinking thinking = Thinking::automatic;
    std::tm now = {};  // the clock of the template; a changed date costs a re-reading
};

struct ChatPrompt {
    std::vector<int32_t> ids;
    // Ascending, inside (0, ids.size()): where the history ends before the newest user message, and
    // where the conversation ends before the header of the answer.
    std::vector<int64_t> checkpoints;
    // What the answer may begin with: a thought, the rest of one, or text to be left as it is.
    enum class Thought { possible, opened, unmarked } thought = Thought::possible;
};

class PromptRenderer {
public:
    // Compiles the template once; what is wrong with it is reported when it is used.
    PromptRenderer(const Tokenizer& tokenizer, std::string_view template_text,
                   std::string source_name);

    // Messages [{role, content, ...}, ...], ready for an answer. Throws Error{bad_file} if there is
    // no template or it refuses the messages. A template without a switch ignores `thinking`.
    ChatPrompt render(const Json& messages, const PromptOptions& options) const;
    ThinkingControl thinking_control() const { return control_; }

private:
    MarkedText render_text(const Json& messages, const PromptOptions& options, bool header) const;
    std::vector<int32_t> encode(const MarkedText& text) const;
    ThinkingControl find_thinking_control() const;
    Json with_thinking_words(Json messages, Thinking thinking) const;
    int64_t common_length(const std::vector<int32_t>& ids, const Json& messages,
                          const PromptOptions& options, bool header) const;

    const Tokenizer& tokenizer_;
    std::variant<ChatTemplate, Error> template_;
    ThinkingControl control_;
};

// bos_token and eos_token come from the vocabulary unless the input has them as variables.
MarkedText render_chat(const ChatTemplate& chat_template, const TokenizerData& vocabulary,
                       TemplateInput input);

// Local time.
std::tm local_now();

}  // namespace nemo
