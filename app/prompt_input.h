// Where a prompt comes from: -p TEXT, -f FILE and piped standard input, in any combination.
#pragma once

#include <optional>
#include <string>

namespace nemo {

// Piped text first, then the file, then the text, a newline between them; one newline at the end of
// piped text and of the file is dropped. "-" as file is standard input. Throws Error{usage} if
// nothing was given or all of it is empty.
std::string gather_prompt(const std::optional<std::string>& text, const std::string& file,
                          bool quiet);

}  // namespace nemo
