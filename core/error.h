// The one exception type of nemo. Thrown by everything that reads outside data (files, options,
// templates), caught at the programs' edges, where the code becomes the exit status.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace nemo {

// The values are the documented exit codes of the programs.
enum class ErrorCode : int {
    runtime = 1,
    usage = 2,
    bad_file = 3,  // a model, checkpoint, tokenizer, template or saved state that cannot be used
    out_of_memory = 4,
    context_full = 5,
    schema = 6,
    interrupted = 130,
};

class Error : public std::runtime_error {
public:
    Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    ErrorCode code() const { return code_; }

private:
    ErrorCode code_;
};

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Reports one of our own mistakes and aborts. Never reached by bad input.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace nemo

// Stays on in release builds: a violated invariant must not become a wrong answer.
#define NEMO_ASSERT(condition)                                                      \
    do {                                                                            \
        if (!(condition)) ::nemo::assertion_failed(#condition, __FILE__, __LINE__); \
    } while (false)
