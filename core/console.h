// The programs' ends: standard input, standard output, text for a terminal.
#pragma once

#include <chrono>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace nemo {

// For programs, once at start. A standard stream that the caller closed is occupied, so that no
// file opened later gets its number and with it our messages; using it still fails. Writing to a
// closed pipe or above a limit on file sizes becomes an error instead of a signal.
void prepare_standard_streams();

bool stdin_is_open();
bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

// Writes all of it at once. A closed reader ends the program quietly with status 141; any other
// failure (a full disk) throws Error{runtime}.
void write_stdout(std::string_view text);
// The same for text from a model or a file: on a terminal it is made harmless.
void write_stdout_text(std::string_view text);
// Never fails.
void write_stderr(std::string_view text);

// Says on standard error what ended `program`, harmless to a terminal. The exit status: an Error's
// own code, that for lack of memory, else runtime.
int report_exception(std::string_view program, const std::exception& exception);

// True if the descriptor has something to read, or has ended; false after the time (nullopt:
// never), and at once if the program is interrupted (core/interrupt.h).
bool wait_for_input(int descriptor, std::optional<std::chrono::milliseconds> time = {});

// Standard input up to its end, made valid UTF-8. Says on standard error what it waits for if
// nothing comes for two seconds, unless `quiet`. Throws Error{usage} above 64 MiB and
// Error{interrupted} on Ctrl-C.
std::string read_stdin(bool quiet);

// A whole text file, made valid UTF-8. Throws Error{usage} if it cannot be read or is above 64 MiB
// and Error{interrupted} on Ctrl-C.
std::string read_text_file(const std::filesystem::path& path);

// Text from a model or a file, harmless to a terminal: control characters other than newline and
// tab, and those that reorder text, become U+FFFD.
std::string terminal_safe(std::string_view text);
// The same for a name that is to stay on its line: newline and tab go too.
std::string terminal_safe_line(std::string_view text);

}  // namespace nemo
