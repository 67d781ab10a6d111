// nemo-cli chat: a conversation in the terminal.
#include "app/chat_terminal.h"
#include "app/commands.h"

namespace nemo {

int run_chat(const ChatCommand& command) {
    check_settings(command.answer);
    return ChatTerminal(command).run();
}

}  // namespace nemo
