#include "core/residency.h"

#include "core/error.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kStepBytes = size_t{64} << 20;

size_t page_bytes() {
    return static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// Calls body(bytes) on all files in steps; false ends the loop. Steps start on pages, as mappings
// do.
template <class Body>
void for_each_step(std::span<const MappedBytes> files, const Body& body) {
    for (const MappedBytes& file : files)
        for (size_t begin = 0; begin < file.size(); begin += kStepBytes)
            if (!body(file.subspan(begin, std::min(kStepBytes, file.size() - begin)))) return;
}

size_t total_bytes(std::span<const MappedBytes> files) {
    size_t total = 0;
    for (const MappedBytes& file : files) total += file.size();
    return total;
}

void* address(const MappedBytes& bytes) {
    return const_cast<std::byte*>(bytes.data());
}

bool fits_into_memory(size_t n_bytes) {
    const long n_pages = ::sysconf(_SC_PHYS_PAGES);
    return n_pages > 0 && n_bytes / page_bytes() < static_cast<size_t>(n_pages);
}

// A read of each page: for kernels before 5.14, and so that a page that cannot be read ends like
// any other access to it (install_lost_page_handler).
void touch_pages(const MappedBytes& bytes) {
    const size_t step = page_bytes();
    for (size_t i = 0; i < bytes.size(); i += step)
        static_cast<void>(*static_cast<const volatile std::byte*>(bytes.data() + i));
}

}  // namespace

ReadAhead::ReadAhead(std::vector<MappedBytes> files) {
    if (!fits_into_memory(total_bytes(files))) return;
    thread_ = std::jthread([files = std::move(files)](const std::stop_token& stop) {
        // Only advice: whatever is not read now is read when it is touched.
        for_each_step(files, [&](const MappedBytes& bytes) {
            ::madvise(address(bytes), bytes.size(), MADV_WILLNEED);
            return !stop.stop_requested();
        });
    });
}

void read_in(std::span<const MappedBytes> files,
             const std::function<bool(int64_t n_done)>& on_progress) {
    int64_t n_done = 0;
    for_each_step(files, [&](const MappedBytes& bytes) {
        if (::madvise(address(bytes), bytes.size(), MADV_POPULATE_READ) != 0) touch_pages(bytes);
        n_done += static_cast<int64_t>(bytes.size());
        return on_progress(n_done);
    });
}

void lock_in_memory(std::span<const MappedBytes> files, const std::string& what) {
    for (const MappedBytes& file : files) {
        if (file.empty() || ::mlock2(file.data(), file.size(), MLOCK_ONFAULT) == 0) continue;
        const int error = errno;
        rlimit limit = {};
        ::getrlimit(RLIMIT_MEMLOCK, &limit);
        const std::string allowed =
            limit.rlim_cur == RLIM_INFINITY ? "none" : fmt::format("{} bytes", limit.rlim_cur);
        fail(ErrorCode::out_of_memory,
             "{}: cannot lock {} bytes in memory: {}; the limit on locked memory is {} (see "
             "ulimit -l)",
             what, total_bytes(files), std::strerror(error), allowed);
    }
}

}  // namespace nemo
