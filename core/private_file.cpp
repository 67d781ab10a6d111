#include "core/private_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>

namespace nemo {

namespace {

constexpr mode_t kOthers = 0077;

}  // namespace

void create_private_folder(const std::filesystem::path& folder) {
    if (folder.empty() || std::filesystem::is_directory(folder)) return;
    std::error_code error;
    if (folder.has_parent_path() && folder.parent_path() != folder)
        std::filesystem::create_directories(folder.parent_path(), error);
    if (error)
        fail(ErrorCode::runtime, "{}: cannot create the folder: {}", folder.parent_path().string(),
             error.message());
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        fail(ErrorCode::runtime, "{}: cannot create the folder: {}", folder.string(),
             std::strerror(errno));
}

void refuse_special_file(const std::filesystem::path& file) {
    struct stat status = {};
    if (::lstat(file.c_str(), &status) != 0) {
        if (errno == ENOENT) return;
        fail(ErrorCode::runtime, "{}: cannot look at it: {}", file.string(), std::strerror(errno));
    }
    if (S_ISLNK(status.st_mode))
        fail(ErrorCode::runtime, "{}: is a symbolic link, which is not followed here",
             file.string());
    if (!S_ISREG(status.st_mode))
        fail(ErrorCode::runtime, "{}: exists and is not a regular file", file.string());
}

// An existing file is not opened: closing it would drop the locks of another user of it in this
// process.
void ensure_private_file(const std::filesystem::path& file) {
    const int descriptor =
        ::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (descriptor >= 0) {
        ::close(descriptor);
        return;
    }
    const int problem = errno;
    refuse_special_file(file);
    struct stat status = {};
    if (problem != EEXIST || ::lstat(file.c_str(), &status) != 0)
        fail(ErrorCode::runtime, "{}: cannot create it: {}", file.string(), std::strerror(problem));
    if ((status.st_mode & kOthers) != 0 &&
        ::chmod(file.c_str(), status.st_mode & 07777 & ~kOthers) != 0)
        fail(ErrorCode::runtime, "{}: others may read it, and that cannot be changed: {}",
             file.string(), std::strerror(errno));
}

}  // namespace nemo
