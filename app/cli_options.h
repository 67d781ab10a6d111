// nemo-cli's command line.
#pragma once

#include "app/commands.h"

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace nemo {

using Command =
    std::variant<GenerateCommand, ChatCommand, TokenizeCommand, RenderCommand, EvalCommand,
                 PerplexityCommand, ImatrixCommand, BenchCommand, InfoCommand, ChatsCommand>;

struct ParsedCommandLine {
    Command command;
    // Set when there is nothing to run: --help and --version (status 0, text for standard output)
    // or a mistake (status 2, text for standard error).
    std::optional<int> exit_status;
    std::string message;
};

// Without the program's name.
ParsedCommandLine parse_command_line(const std::vector<std::string>& arguments);

}  // namespace nemo
