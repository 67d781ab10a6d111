#include "core/temporary_file.h"

#include "core/checked.h"
#include "core/error.h"
#include "core/file_io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace nemo {

namespace {

constexpr std::string_view kTemporaryMark = ".partial-";
constexpr std::string_view kRandomLetters = "XXXXXX";  // for mkostemp

std::filesystem::path folder_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// Makes a rename inside the folder durable.
void sync_folder(const std::filesystem::path& folder) {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    ::fsync(descriptor);
    ::close(descriptor);
}

// The locked file if it is a regular one that nobody is writing, otherwise -1.
int lock_leftover(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return -1;
    struct stat status = {};
    // Its writer may have published or removed it between the look and the lock.
    const bool is_ours = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
                         ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 &&
                         ::access(path.c_str(), F_OK) == 0;
    if (is_ours) return descriptor;
    ::close(descriptor);
    return -1;
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

TemporaryFile::TemporaryFile(const std::filesystem::path& target, FileAccess access)
    : target_(target) {
    refuse_special_target(target);
    std::string name = target.string() + std::string(kTemporaryMark) + std::string(kRandomLetters);
    descriptor_ = create_locked(name);
    if (descriptor_ < 0)
        fail(ErrorCode::runtime, "{}: cannot create a file beside it: {}", target.string(),
             std::strerror(errno));
    path_ = name;
    if (access == FileAccess::owner_only) return;  // as it was created
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::fchmod(descriptor_, 0666 & ~mask);
}

TemporaryFile::~TemporaryFile() {
    // Removed before the lock ends with the descriptor.
    if (!path_.empty() && !is_kept_) ::unlink(path_.c_str());
    if (descriptor_ >= 0) ::close(descriptor_);
}

TemporaryFile::TemporaryFile(TemporaryFile&& other) noexcept
    : target_(std::move(other.target_)),
      path_(std::exchange(other.path_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)),
      is_kept_(other.is_kept_) {}

TemporaryFile& TemporaryFile::operator=(TemporaryFile&& other) noexcept {
    std::swap(target_, other.target_);
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(is_kept_, other.is_kept_);
    return *this;
}

// Best effort: it may be somebody else's folder.
std::vector<TemporaryFile> TemporaryFile::leftovers(const std::filesystem::path& target) {
    const std::string prefix = target.filename().string() + std::string(kTemporaryMark);
    std::error_code error;
    std::vector<TemporaryFile> found;
    for (std::filesystem::directory_iterator entry(folder_of(target), error), end;
         !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name.size() != prefix.size() + kRandomLetters.size() || !name.starts_with(prefix))
            continue;
        const int descriptor = lock_leftover(entry->path());
        if (descriptor >= 0) found.push_back(TemporaryFile(target, entry->path(), descriptor));
    }
    return found;
}

void TemporaryFile::fail_to(const char* action) const {
    fail(ErrorCode::runtime, "{}: cannot {}: {}", target_.string(), action, std::strerror(errno));
}

bool TemporaryFile::reserve(uint64_t n_bytes) {
    struct statvfs status = {};
    struct stat own = {};
    if (::fstatvfs(descriptor_, &status) == 0 && ::fstat(descriptor_, &own) == 0) {
        const uint64_t available = uint64_t{status.f_bavail} * status.f_frsize +
                                   static_cast<uint64_t>(own.st_blocks) * 512;
        if (available < n_bytes)
            fail(ErrorCode::runtime, "{}: the disk has {} bytes free, {} are needed",
                 target_.string(), available, n_bytes);
    }
    const auto length = narrow<off_t>(n_bytes);
    if (!length || *length == 0) return false;
    // Not posix_fallocate: where the file system cannot, that would write zeros instead.
    while (::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, *length) != 0) {
        if (errno == EINTR) continue;
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
            fail(ErrorCode::runtime, "{}: cannot reserve {} bytes: {}", target_.string(), n_bytes,
                 std::strerror(errno));
        return false;
    }
    return true;
}

void TemporaryFile::truncate(uint64_t n_bytes) {
    if (::ftruncate(descriptor_, static_cast<off_t>(n_bytes)) != 0) fail_to("write");
}

void TemporaryFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
    if (!write_all_at(descriptor_, offset, bytes)) fail_to("write");
}

size_t TemporaryFile::read_at(uint64_t offset, std::span<std::byte> bytes) const {
    return read_all_at(descriptor_, offset, bytes);
}

void TemporaryFile::sync(bool data_only) {
    if ((data_only ? ::fdatasync(descriptor_) : ::fsync(descriptor_)) != 0)
        fail_to("flush to disk");
}

void TemporaryFile::publish() {
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail_to("rename the finished file");
    path_.clear();
    sync_folder(folder_of(target_));
}

}  // namespace nemo
