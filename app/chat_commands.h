// The slash commands of the chat in the terminal.
#pragma once

#include <string>

namespace nemo {

class ChatTerminal;

// Runs "/NAME ARGUMENT". Throws Error{usage} for a name that does not exist, and what the command
// throws.
void run_chat_command(ChatTerminal& terminal, const std::string& line);

}  // namespace nemo
