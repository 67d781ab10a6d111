#include "core/interrupt.h"

#include "core/error.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace nemo {

namespace {

std::atomic<bool> interrupt_flag = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // safe inside a signal handler

void on_interrupt(int) {
    if (interrupt_flag.exchange(true)) _exit(static_cast<int>(ErrorCode::interrupted));
}

}  // namespace

void install_interrupt_handler() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    // No SA_RESTART: a read from the terminal must return when the user presses Ctrl-C.
    action.sa_flags = 0;
    const int result = sigaction(SIGINT, &action, nullptr);
    NEMO_ASSERT(result == 0);
}

bool interrupted() {
    return interrupt_flag.load(std::memory_order_relaxed);
}

void clear_interrupt() {
    interrupt_flag.store(false);
}

}  // namespace nemo
