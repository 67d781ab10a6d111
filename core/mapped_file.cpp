#include "core/mapped_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>

namespace nemo {

namespace {

// Only async-signal-safe calls.
void on_lost_page(int) {
    constexpr std::string_view kMessage =
        "a mapped file can no longer be read: it was truncated or its disk failed\n";
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
    ::_exit(static_cast<int>(ErrorCode::bad_file));
}

}  // namespace

void install_lost_page_handler() {
    struct sigaction action = {};
    action.sa_handler = on_lost_page;
    ::sigemptyset(&action.sa_mask);
    const int result = ::sigaction(SIGBUS, &action, nullptr);
    NEMO_ASSERT(result == 0);
}

MappedFile MappedFile::open(const std::filesystem::path& path) {
    MappedFile file;
    file.path_ = path.string();
    // O_NONBLOCK: a named pipe that nobody writes must be refused, not waited for.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        fail(ErrorCode::bad_file, "{}: cannot open: {}", file.path_, std::strerror(errno));
    struct stat status = {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular) {
        ::close(descriptor);
        fail(ErrorCode::bad_file, "{}: not a regular file", file.path_);
    }
    file.device_ = status.st_dev;
    file.number_ = status.st_ino;
    const auto n_bytes = static_cast<size_t>(status.st_size);
    if (n_bytes > 0) {
        void* data = ::mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
        if (data == MAP_FAILED) {
            const int error = errno;
            ::close(descriptor);
            fail(ErrorCode::bad_file, "{}: cannot map {} bytes: {}", file.path_, n_bytes,
                 std::strerror(error));
        }
        file.data_ = static_cast<const std::byte*>(data);
        file.n_bytes_ = n_bytes;
    }
    ::close(descriptor);
    return file;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), n_bytes_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      n_bytes_(std::exchange(other.n_bytes_, 0)),
      device_(other.device_),
      number_(other.number_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(device_, other.device_);
    std::swap(number_, other.number_);
    return *this;
}

int MappedFile::reopen(int flags) const {
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
    if (descriptor < 0) return -1;
    struct stat status = {};
    if (::fstat(descriptor, &status) == 0 && status.st_dev == device_ && status.st_ino == number_)
        return descriptor;
    ::close(descriptor);
    return -1;
}

}  // namespace nemo
