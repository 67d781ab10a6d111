#include "core/loaded_bytes.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kReadBytes = size_t{4} << 20;  // at a time

// A mapped file opened again, by its path.
class FileReader {
public:
    explicit FileReader(const MappedFile& file)
        : file_(file), descriptor_(file.reopen(0)), direct_(file.reopen(O_DIRECT)) {
        if (descriptor_ < 0)
            fail(ErrorCode::bad_file, "{}: is not the file any more that it was", file.path());
    }
    ~FileReader() {
        ::close(descriptor_);
        stop_direct();
    }
    FileReader(const FileReader&) = delete;
    FileReader& operator=(const FileReader&) = delete;

    const MappedFile& file() const { return file_; }
    int descriptor() const { return descriptor_; }

    // From `offset`, a multiple of the block size, to at least `end`. The target has place for
    // whole blocks.
    void read(uint64_t offset, uint64_t end, std::byte* target) {
        while (offset < end) {
            const size_t n_wanted =
                static_cast<size_t>(std::min<uint64_t>(whole_blocks(end - offset), kReadBytes));
            const size_t n = read_some(offset, n_wanted, target);
            if (offset + n >= end) return;
            // What is left begins a block; a part of one comes only before the end of the file.
            const size_t n_whole = n / kBlockBytes * kBlockBytes;
            if (n_whole == 0)
                fail(ErrorCode::bad_file,
                     "{}: byte {} is missing, of {} that it had when it was opened", file_.path(),
                     offset + n, file_.bytes().size());
            offset += n_whole;
            target += n_whole;
        }
    }

    // False also if nobody knows.
    bool is_in_page_cache(uint64_t offset, uint64_t end) {
        const std::span<const std::byte> mapped = file_.bytes();
        end = std::min<uint64_t>(end, mapped.size());
        std::array<unsigned char, kReadBytes / kBlockBytes> pages = {};
        for (; offset < end; offset += kReadBytes) {
            const size_t n_bytes = std::min<uint64_t>(kReadBytes, end - offset);
            void* const first = const_cast<std::byte*>(mapped.data() + offset);
            if (::mincore(first, n_bytes, pages.data()) != 0) return false;
            if (!std::all_of(pages.begin(), pages.begin() + whole_blocks(n_bytes) / kBlockBytes,
                             [](unsigned char page) { return (page & 1u) != 0; }))
                return false;
        }
        return true;
    }

private:
    size_t read_some(uint64_t offset, size_t n_bytes, std::byte* target) {
        const bool is_cached = is_in_page_cache(offset, offset + n_bytes);
        for (;;) {
            const int descriptor = direct_ >= 0 && !is_cached ? direct_ : descriptor_;
            const ssize_t n = ::pread(descriptor, target, n_bytes, static_cast<off_t>(offset));
            if (n >= 0) return static_cast<size_t>(n);
            if (errno == EINTR) continue;
            if (descriptor == descriptor_)
                fail(ErrorCode::bad_file, "{}: cannot read {} bytes at {}: {}", file_.path(),
                     n_bytes, offset, std::strerror(errno));
            stop_direct();  // some file systems refuse only now
        }
    }

    void stop_direct() {
        if (direct_ >= 0) ::close(std::exchange(direct_, -1));
    }

    const MappedFile& file_;
    int descriptor_;
    int direct_;  // -1: not possible
};

}  // namespace

LoadedBytes::Pages::Pages(int descriptor, uint64_t offset, size_t n_bytes) : n_bytes_(n_bytes) {
    void* const data = ::mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, descriptor,
                              static_cast<off_t>(offset));
    data_ = data == MAP_FAILED ? nullptr : static_cast<const std::byte*>(data);
}

LoadedBytes::Pages::~Pages() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), n_bytes_);
}

LoadedBytes::Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(other.n_bytes_) {}

void LoadedBytes::load(std::span<const MappedRange> ranges) {
    pieces_.clear();
    pages_.clear();
    const auto begin_of = [](const MappedRange& range) {
        const auto offset = static_cast<uint64_t>(range.bytes.data() - range.file->bytes().data());
        return std::pair(offset, offset / kBlockBytes * kBlockBytes);
    };
    size_t n_total = 0;
    for (const MappedRange& range : ranges) {
        const auto [offset, begin] = begin_of(range);
        n_total += static_cast<size_t>(whole_blocks(offset - begin + range.bytes.size()));
    }
    memory_.reserve(n_total);
    std::byte* place = memory_.data();
    std::optional<FileReader> reader;
    for (const MappedRange& range : ranges) {
        const auto [offset, begin] = begin_of(range);
        const uint64_t end = offset + range.bytes.size();
        if (range.bytes.empty()) continue;
        if (!reader || &reader->file() != range.file) reader.emplace(*range.file);
        const std::byte* loaded = nullptr;
        if (reader->is_in_page_cache(begin, end)) {
            pages_.emplace_back(reader->descriptor(), begin, static_cast<size_t>(end - begin));
            loaded = pages_.back().data();
        }
        if (loaded == nullptr) {
            reader->read(begin, end, place);
            loaded = place;
            place += whole_blocks(end - begin);
        }
        pieces_.push_back({range.bytes, loaded + (offset - begin)});
    }
}

const std::byte* LoadedBytes::find(std::span<const std::byte> mapped) const {
    for (const Piece& piece : pieces_) {
        const std::less_equal<const std::byte*> before;  // also of unrelated objects
        if (before(piece.mapped.data(), mapped.data()) &&
            before(mapped.data() + mapped.size(), piece.mapped.data() + piece.mapped.size()))
            return piece.data + (mapped.data() - piece.mapped.data());
    }
    return mapped.data();
}

}  // namespace nemo
