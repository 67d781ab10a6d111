// The command line of `nemo-cli chats`.
#pragma once

#include "app/commands.h"

namespace CLI {
class App;
}

namespace nemo {

// Adds the command; returns it.
CLI::App* define_chats(CLI::App& app, ChatsCommand& command);

}  // namespace nemo
