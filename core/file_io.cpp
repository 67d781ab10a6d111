#include "core/file_io.h"

#include <unistd.h>
#include <cerrno>

namespace nemo {

bool write_all_at(int descriptor, uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n =
            ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        offset += static_cast<uint64_t>(n);
        bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return true;
}

size_t read_all_at(int descriptor, uint64_t offset, std::span<std::byte> bytes) {
    size_t n_read = 0;
    while (n_read < bytes.size()) {
        const ssize_t n = ::pread(descriptor, bytes.data() + n_read, bytes.size() - n_read,
                                  static_cast<off_t>(offset + n_read));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = 0;
        if (n <= 0) break;
        n_read += static_cast<size_t>(n);
    }
    return n_read;
}

}  // namespace nemo
