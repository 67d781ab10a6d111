#include "core/console.h"

#include "core/error.h"
#include "core/interrupt.h"
#include "core/utf8.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>

namespace nemo {

namespace {

constexpr size_t kMaxInputBytes = size_t{64} << 20;
constexpr char32_t kReplacement = 0xFFFD;

bool is_harmful(char32_t c) {
    const bool control = (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0);
    const bool reorders = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    return control || reorders;
}

// Up to the end. `name` is for messages.
std::string read_text(int descriptor, const std::string& name) {
    std::string text;
    char buffer[65536];
    for (;;) {
        if (!wait_for_input(descriptor)) fail(ErrorCode::interrupted, "interrupted");
        const ssize_t n_read = ::read(descriptor, buffer, sizeof buffer);
        if (n_read < 0 && errno == EINTR) continue;
        if (n_read < 0) fail(ErrorCode::usage, "{}: cannot read: {}", name, std::strerror(errno));
        if (n_read == 0) return sanitize_utf8(text);
        text.append(buffer, static_cast<size_t>(n_read));
        if (text.size() > kMaxInputBytes)
            fail(ErrorCode::usage, "{} is longer than {} bytes", name, kMaxInputBytes);
    }
}

struct Descriptor {
    int number = -1;
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
};

}  // namespace

void prepare_standard_streams() {
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(descriptor, F_GETFD) >= 0) continue;
        // The lowest free number is this one. Opened the wrong way round: using it is an error.
        [[maybe_unused]] const int opened =
            ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
}

bool stdin_is_open() {
    const int flags = ::fcntl(STDIN_FILENO, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}
bool stdin_is_terminal() {
    return ::isatty(STDIN_FILENO) == 1;
}
bool stdout_is_terminal() {
    return ::isatty(STDOUT_FILENO) == 1;
}
bool stderr_is_terminal() {
    return ::isatty(STDERR_FILENO) == 1;
}

void write_stdout(std::string_view text) {
    constexpr int kClosedPipeStatus = 141;  // 128 + SIGPIPE, as a shell reports it
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EPIPE) ::_exit(kClosedPipeStatus);
        if (written < 0)
            fail(ErrorCode::runtime, "cannot write to standard output: {}", std::strerror(errno));
        text.remove_prefix(static_cast<size_t>(written));
    }
}

void write_stdout_text(std::string_view text) {
    write_stdout(stdout_is_terminal() ? terminal_safe(text) : std::string(text));
}

void write_stderr(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0 && errno != EINTR) return;
        if (written > 0) text.remove_prefix(static_cast<size_t>(written));
    }
}

int report_exception(std::string_view program, const std::exception& exception) {
    ErrorCode code = ErrorCode::runtime;
    std::string message = exception.what();
    if (const auto* error = dynamic_cast<const Error*>(&exception)) {
        code = error->code();
    } else if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) {
        code = ErrorCode::out_of_memory;
        message = "out of memory";
    } else if (const auto* problem =
                   dynamic_cast<const std::filesystem::filesystem_error*>(&exception)) {
        message = fmt::format("{}: {}", problem->path1().string(), problem->code().message());
    }
    write_stderr(fmt::format("{}: {}\n", program, terminal_safe_line(message)));
    return static_cast<int>(code);
}

// The signal may come just before the wait, hence looks up now and then.
bool wait_for_input(int descriptor, std::optional<std::chrono::milliseconds> time) {
    constexpr int kMillisecondsBetweenLooks = 100;
    const auto start = std::chrono::steady_clock::now();
    pollfd request = {descriptor, POLLIN, 0};
    while (!interrupted()) {
        if (::poll(&request, 1, kMillisecondsBetweenLooks) > 0) return !interrupted();
        if (time && std::chrono::steady_clock::now() - start >= *time) return false;
    }
    return false;
}

std::string read_stdin(bool quiet) {
    constexpr std::chrono::seconds kTimeToNotice(2);
    if (!quiet && !wait_for_input(STDIN_FILENO, kTimeToNotice) && !interrupted())
        write_stderr("nemo-cli: waiting for text on standard input (Ctrl-D or EOF ends it)\n");
    return read_text(STDIN_FILENO, "standard input");
}

std::string read_text_file(const std::filesystem::path& path) {
    const Descriptor file = {::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.number < 0 && interrupted()) fail(ErrorCode::interrupted, "interrupted");
    if (file.number < 0)
        fail(ErrorCode::usage, "{}: cannot open: {}", path.string(), std::strerror(errno));
    return read_text(file.number, path.string());
}

std::string terminal_safe(std::string_view text) {
    std::string safe;
    for (size_t offset = 0; offset < text.size();) {
        const CodePoint code_point = decode_utf8(text, offset);
        append_utf8(safe, is_harmful(code_point.value) ? kReplacement : code_point.value);
        offset += static_cast<size_t>(code_point.n_bytes);
    }
    return safe;
}

std::string terminal_safe_line(std::string_view text) {
    std::string line;
    for (const char c : terminal_safe(text)) {
        if (c == '\n' || c == '\t')
            append_utf8(line, kReplacement);
        else
            line.push_back(c);
    }
    return line;
}

}  // namespace nemo
