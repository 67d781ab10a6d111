// Ctrl-C as a flag that long loops poll, so that they can stop at a clean point and tidy up.
#pragma once

namespace nemo {

// Installs the SIGINT handler: the first Ctrl-C sets the flag, a second one while the flag is set
// leaves at once with status 130. For programs only; call it once, at start.
void install_interrupt_handler();

bool interrupted();
// Takes the flag back, for a program that goes on after it has stopped what was interrupted; not
// after terminated().
void clear_interrupt();

// From now on a closed terminal (SIGHUP) and SIGTERM set the flag too, for good, so that a program
// can keep what it has before it ends.
void install_termination_handler();
bool terminated();

}  // namespace nemo
