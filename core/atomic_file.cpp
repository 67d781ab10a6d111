#include "core/atomic_file.h"

#include "core/error.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace nemo {

namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

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

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& target) : target_(target) {
    std::string name = target.string() + ".partial-XXXXXX";
    descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ < 0)
        fail(ErrorCode::runtime, "{}: cannot create a file beside it: {}", target.string(),
             std::strerror(errno));
    temporary_ = name;
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

void AtomicFile::write_fully(const std::byte* data, size_t n) {
    while (n > 0) {
        const ssize_t written = ::write(descriptor_, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0)
            fail(ErrorCode::runtime, "{}: cannot write: {}", target_.string(),
                 std::strerror(errno));
        data += written;
        n -= static_cast<size_t>(written);
    }
}

void AtomicFile::commit() {
    flush();
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
