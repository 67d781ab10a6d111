// nemo-cli chat: a conversation in the terminal.
#include "app/chat_terminal.h"
#include "app/commands.h"

namespace nemo {

int run_chat(const ChatCommand& command) {
    return ChatTerminal(command).run();
}

}  // namespace nemo
