#include "app/file_lock.h"

#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <thread>

namespace nemo {

namespace {

constexpr std::chrono::milliseconds kRetryInterval{10};

// False: somebody else has it.
bool try_lock(int descriptor, int64_t offset, FileLock::Kind kind,
              const std::filesystem::path& file) {
    struct flock request = {};
    request.l_type = kind == FileLock::Kind::shared ? F_RDLCK : F_WRLCK;
    request.l_whence = SEEK_SET;
    request.l_start = offset;
    request.l_len = 1;
    // Of the open file, not of the process: a second lock of this program is a stranger's too.
    while (::fcntl(descriptor, F_OFD_SETLK, &request) != 0) {
        if (errno == EAGAIN || errno == EACCES) return false;
        if (errno == EINTR) continue;
        fail(ErrorCode::runtime, "{}: cannot lock it: {}", file.string(), std::strerror(errno));
    }
    return true;
}

}  // namespace

std::optional<FileLock> FileLock::take(const std::filesystem::path& file, int64_t offset, Kind kind,
                                       std::chrono::milliseconds patience) {
    FileLock lock(::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (lock.descriptor_ < 0)
        fail(ErrorCode::runtime, "{}: cannot open it: {}", file.string(), std::strerror(errno));
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!try_lock(lock.descriptor_, offset, kind, file)) {
        if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
        std::this_thread::sleep_for(kRetryInterval);
    }
    return lock;
}

FileLock::~FileLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace nemo
