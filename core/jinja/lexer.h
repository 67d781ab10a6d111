// Cuts a template into tokens: text outside the tags (whitespace control already applied) and the
// words inside them.
//
// Follows Jinja 3.1 with the environment that Hugging Face uses: trim_blocks, lstrip_blocks, the
// last newline of the file dropped, all newlines read as "\n".
#pragma once

#include "core/error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo::jinja {

// Both count from 1; columns count code points.
struct Position {
    int line = 1;
    int column = 1;
};

template <class... Args>
[[noreturn]] void fail_at(std::string_view source_name, Position position,
                          fmt::format_string<Args...> format, Args&&... args) {
    throw Error(ErrorCode::bad_file,
                fmt::format("{}:{}:{}: {}", source_name, position.line, position.column,
                            fmt::format(format, std::forward<Args>(args)...)));
}

enum class TokenType {
    data,  // text outside the tags
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,  // text holds the value, escapes resolved
    integer,
    real,
    op,  // operator or punctuation, spelled in text
    end,
};

struct Token {
    TokenType type = TokenType::end;
    Position position;
    std::string text;
    int64_t integer = 0;
    double real = 0;

    bool is_op(std::string_view spelling) const {
        return type == TokenType::op && text == spelling;
    }
    bool is_name(std::string_view name) const { return type == TokenType::name && text == name; }
};

// The last token is `end`. Throws Error{bad_file} with a position.
std::vector<Token> tokenize(std::string_view source, std::string_view source_name);

}  // namespace nemo::jinja
