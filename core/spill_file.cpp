#include "core/spill_file.h"

#include "core/error.h"
#include "core/file_io.h"
#include "core/private_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace nemo {

namespace {

// Not every file system can make a file without a name.
int open_unnamed(const std::filesystem::path& folder) {
    const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor >= 0) return descriptor;
    std::string name = (folder / "spill-XXXXXX").string();
    const int named = ::mkostemp(name.data(), O_CLOEXEC);
    if (named >= 0) ::unlink(name.c_str());
    return named;
}

}  // namespace

SpillFile::SpillFile(const std::filesystem::path& folder) : folder_(folder) {
    create_private_folder(folder);
    descriptor_ = open_unnamed(folder);
    if (descriptor_ < 0)
        fail(ErrorCode::runtime, "{}: cannot create a file: {}", folder.string(),
             std::strerror(errno));
}

SpillFile::~SpillFile() {
    ::close(descriptor_);
}

uint64_t SpillFile::write(std::span<const std::byte> bytes) {
    const uint64_t offset = end_;
    if (!write_all_at(descriptor_, offset, bytes)) {
        const int error = errno;
        [[maybe_unused]] const int ignored = ::ftruncate(descriptor_, static_cast<off_t>(offset));
        fail(ErrorCode::runtime, "{}: cannot write: {}", folder_.string(), std::strerror(error));
    }
    end_ += bytes.size();
    n_bytes_ += bytes.size();
    return offset;
}

void SpillFile::read(uint64_t offset, std::span<std::byte> bytes) const {
    if (read_all_at(descriptor_, offset, bytes) != bytes.size())
        fail(ErrorCode::bad_file, "{}: cannot read {} bytes back: {}", folder_.string(),
             bytes.size(), errno != 0 ? std::strerror(errno) : "the file is too short");
}

void SpillFile::discard(uint64_t offset, uint64_t n_bytes) {
    n_bytes_ -= n_bytes;
    // Where holes cannot be made, the space comes back when the file goes.
    ::fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(n_bytes));
}

uint64_t SpillFile::n_free_bytes() const {
    struct statvfs status = {};
    if (::fstatvfs(descriptor_, &status) != 0) return 0;
    return uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace nemo
