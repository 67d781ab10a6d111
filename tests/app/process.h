// Runs one of our programs as a user would, and keeps what it printed.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/temp_folder.h"

namespace nemo {

struct ProcessResult {
    int status = 0;  // exit status, or 128 + the signal that ended it
    std::string out;
    std::string err;
};

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

inline std::string program(const char* name) {
    return (std::filesystem::path(NEMO_BINARY_DIR) / name).string();
}

inline int decode_status(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// `input` is standard input. `environment`: "NAME=value" entries added to ours.
inline ProcessResult run_process(std::vector<std::string> arguments, const std::string& input = "",
                                 const std::vector<std::string>& environment = {}) {
    const TempFolder folder;
    write_file(folder / "in", input);
    const pid_t child = ::fork();
    if (child == 0) {
        const auto redirect = [&](const char* name, int flags, int descriptor) {
            const int file = ::open((folder / name).c_str(), flags, 0600);
            if (file < 0 || ::dup2(file, descriptor) < 0) ::_exit(126);
        };
        redirect("in", O_RDONLY, STDIN_FILENO);
        redirect("out", O_WRONLY | O_CREAT, STDOUT_FILENO);
        redirect("err", O_WRONLY | O_CREAT, STDERR_FILENO);
        for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
        std::vector<char*> argv;
        for (std::string& argument : arguments) argv.push_back(argument.data());
        argv.push_back(nullptr);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return {decode_status(status), read_file(folder / "out"), read_file(folder / "err")};
}

// The same through a shell, for pipes and redirections.
inline ProcessResult run_shell(const std::string& command) {
    return run_process({"/bin/bash", "-c", command});
}

}  // namespace nemo
