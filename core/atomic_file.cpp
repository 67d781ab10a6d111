#include "core/atomic_file.h"

#include "core/checked.h"
#include "core/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace nemo {

namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr std::string_view kTemporaryMark = ".partial-";
constexpr std::string_view kRandomLetters = "XXXXXX";  // for mkostemp

// Makes a rename inside the folder durable.
void sync_folder(const std::filesystem::path& folder) {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    ::fsync(descriptor);
    ::close(descriptor);
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// Removes the file if nobody is writing it.
void remove_if_unlocked(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return;
    struct stat status = {};
    if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
        ::flock(descriptor, LOCK_EX | LOCK_NB) == 0)
        ::unlink(path.c_str());
    ::close(descriptor);
}

// What killed programs left behind of this target. Best effort: it may be somebody else's folder.
void remove_leftovers(const std::filesystem::path& target, const std::filesystem::path& own) {
    const std::string prefix = target.filename().string() + std::string(kTemporaryMark);
    std::error_code error;
    std::vector<std::filesystem::path> found;
    for (std::filesystem::directory_iterator entry(folder_of(target), error), end;
         !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name.size() == prefix.size() + kRandomLetters.size() && name.starts_with(prefix) &&
            name != own.filename().string())
            found.push_back(entry->path());
    }
    for (const std::filesystem::path& path : found) remove_if_unlocked(path);
}

// A rename would put the new file in the place of a device or a pipe; onto a folder it fails late.
void refuse_special_target(const std::filesystem::path& target) {
    std::error_code ignored;
    const std::filesystem::file_status status = std::filesystem::status(target, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        fail(ErrorCode::runtime, "{}: exists and is not a regular file", target.string());
}

// A new file under `name`, whose last letters are replaced, locked. -1 and errno if that fails.
int create_locked(std::string& name) {
    for (;;) {
        std::string candidate = name;
        const int descriptor = ::mkostemp(candidate.data(), O_CLOEXEC);
        if (descriptor < 0) return -1;
        // Where locks do not work, leftovers are not removed either.
        while (::flock(descriptor, LOCK_EX) != 0 && errno == EINTR) {
        }
        // Another program may have taken it for a leftover before it was locked.
        struct stat status = {};
        if (::fstat(descriptor, &status) != 0 || status.st_nlink > 0) {
            name = candidate;
            return descriptor;
        }
        ::close(descriptor);
    }
}

}  // namespace

void refuse_to_replace(const std::filesystem::path& target, const std::filesystem::path& source) {
    std::error_code ignored;  // set if one of them is not there
    if (std::filesystem::equivalent(target, source, ignored))
        fail(ErrorCode::usage, "{}: is read, and so cannot be written", target.string());
}

AtomicFile::AtomicFile(const std::filesystem::path& target) : target_(target) {
    refuse_special_target(target);
    std::string name = target.string() + std::string(kTemporaryMark) + std::string(kRandomLetters);
    descriptor_ = create_locked(name);
    if (descriptor_ < 0)
        fail(ErrorCode::runtime, "{}: cannot create a file beside it: {}", target.string(),
             std::strerror(errno));
    temporary_ = name;
    remove_leftovers(target_, temporary_);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::fchmod(descriptor_, 0666 & ~mask);
    buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::reserve(uint64_t n_bytes) {
    struct statvfs status = {};
    if (::fstatvfs(descriptor_, &status) == 0) {
        const uint64_t available = uint64_t{status.f_bavail} * status.f_frsize;
        if (available < n_bytes)
            fail(ErrorCode::runtime, "{}: the disk has {} bytes free, {} are needed",
                 target_.string(), available, n_bytes);
    }
    const auto length = narrow<off_t>(n_bytes);
    if (!length || *length == 0) return;
    // Not posix_fallocate: where the file system cannot, that would write zeros instead.
    while (::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, *length) != 0) {
        if (errno == EINTR) continue;
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
            fail(ErrorCode::runtime, "{}: cannot reserve {} bytes: {}", target_.string(), n_bytes,
                 std::strerror(errno));
        return;
    }
    reserved_ = true;
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    if (buffer_.size() + bytes.size() > kBufferBytes) flush();
    if (bytes.size() >= kBufferBytes)
        write_fully(bytes.data(), bytes.size());
    else
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    n_written_ += bytes.size();
}

void AtomicFile::write(std::string_view text) {
    write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::flush() {
    write_fully(buffer_.data(), buffer_.size());
    buffer_.clear();
}

void AtomicFile::fail_to_write() const {
    fail(ErrorCode::runtime, "{}: cannot write: {}", target_.string(), std::strerror(errno));
}

void AtomicFile::write_fully(const std::byte* data, size_t n) {
    while (n > 0) {
        const ssize_t written = ::write(descriptor_, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail_to_write();
        data += written;
        n -= static_cast<size_t>(written);
    }
}

void AtomicFile::overwrite(uint64_t offset, std::span<const std::byte> bytes) {
    NEMO_ASSERT(offset <= n_written_ && bytes.size() <= n_written_ - offset);
    flush();
    while (!bytes.empty()) {
        const ssize_t written =
            ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail_to_write();
        offset += static_cast<uint64_t>(written);
        bytes = bytes.subspan(static_cast<size_t>(written));
    }
}

void AtomicFile::commit() {
    flush();
    if (reserved_ && ::ftruncate(descriptor_, static_cast<off_t>(n_written_)) != 0) fail_to_write();
    if (::fsync(descriptor_) != 0)
        fail(ErrorCode::runtime, "{}: cannot flush to disk: {}", target_.string(),
             std::strerror(errno));
    if (::rename(temporary_.c_str(), target_.c_str()) != 0)
        fail(ErrorCode::runtime, "{}: cannot rename the finished file: {}", target_.string(),
             std::strerror(errno));
    temporary_.clear();
    sync_folder(folder_of(target_));
}

}  // namespace nemo
