// nemo-cli tokenize: text to token ids.
#include "app/commands.h"
#include "app/engine.h"
#include "app/prompt_input.h"
#include "core/console.h"
#include "core/error.h"
#include "core/utf8.h"

namespace nemo {

namespace {

// A piece on one line, whatever bytes it stands for.
std::string quoted(const std::string& bytes) {
    return to_json_text(Json(sanitize_utf8(bytes)));
}

}  // namespace

int run_tokenize(const TokenizeCommand& command) {
    const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(command.model);
    // Also an empty text.
    const std::string text = command.prompt ? sanitize_utf8(*command.prompt)
                                            : gather_prompt({}, command.prompt_file, true);
    const std::vector<int32_t> ids =
        tokenizer->encode(text, command.special, {.add_special = !command.no_bos});
    std::string out;
    for (const int32_t id : ids) {
        if (command.pieces)
            out += fmt::format("{:>8}  {}\n", id, quoted(tokenizer->token_bytes(id, true)));
        else
            out += fmt::format("{}{}", out.empty() ? "" : ",", id);
    }
    if (!command.pieces) out += "\n";
    write_stdout(out);
    return 0;
}

}  // namespace nemo
