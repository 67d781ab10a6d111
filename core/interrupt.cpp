#include "core/interrupt.h"

#include "core/error.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace nemo {

namespace {

std::atomic<bool> interrupt_flag = false;
std::atomic<bool> termination_flag = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // safe inside a signal handler

void on_interrupt(int) {
    if (interrupt_flag.exchange(true)) _exit(static_cast<int>(ErrorCode::interrupted));
}

void on_termination(int) {
    termination_flag.store(true);
    interrupt_flag.store(true);
}

void install(int signal, void (*handler)(int)) {
    struct sigaction action = {};
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    // No SA_RESTART: a read from the terminal must return when the user presses Ctrl-C.
    action.sa_flags = 0;
    const int result = sigaction(signal, &action, nullptr);
    NEMO_ASSERT(result == 0);
}

}  // namespace

void install_interrupt_handler() {
    install(SIGINT, on_interrupt);
}

void install_termination_handler() {
    install(SIGHUP, on_termination);
    install(SIGTERM, on_termination);
}

bool terminated() {
    return termination_flag.load(std::memory_order_relaxed);
}

bool interrupted() {
    return interrupt_flag.load(std::memory_order_relaxed);
}

void clear_interrupt() {
    interrupt_flag.store(terminated());
}

}  // namespace nemo
