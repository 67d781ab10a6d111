#include "core/resumable_file.h"

#include "core/crc32c.h"
#include "core/error.h"

#include <fcntl.h>
#include <algorithm>
#include <cstring>
#include <exception>
#include <type_traits>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr uint64_t kMagic = 0x54524150'4f4d454e;  // "NEMOPART"
constexpr int kRecords = 2;

// A record costs a wait for the disk; a kill costs what was written since the last one. So the time
// from one to the next is this many times what one takes.
constexpr int kTimesPerRecord = 20;

}  // namespace

struct ResumableFile::Record {
    uint64_t magic = 0;
    uint64_t identity = 0;
    uint64_t n_file_bytes = 0;
    uint64_t sequence = 0;
    uint64_t n_kept = 0;
    uint32_t kept_checksum = 0;
    uint32_t checksum = 0;  // of the fields above

    uint32_t expected_checksum() const {
        return crc32c(std::as_bytes(std::span(this, 1)).first(offsetof(Record, checksum)));
    }
    bool belongs_to(const Layout& layout) const {
        return magic == kMagic && checksum == expected_checksum() && identity == layout.identity &&
               n_file_bytes == layout.n_file_bytes && n_kept <= layout.n_file_bytes &&
               n_kept > layout.n_head_bytes;
    }
};

ResumableFile::ResumableFile(const std::filesystem::path& target, const Layout& layout,
                             OnRestart on_restart)
    : layout_(layout), file_(target) {
    static_assert(std::has_unique_object_representations_v<Record>);
    if (on_restart == OnRestart::resume)
        adopt_leftovers();
    else
        TemporaryFile::leftovers(target);  // and they are gone
    if (n_kept_ > 0) file_.keep();         // even if the disk turns out to be too full
    file_.reserve(whole_blocks(layout.n_file_bytes) + kRecords * kBlockBytes);
    if (on_restart == OnRestart::resume) file_.keep();
    if (n_kept_ == 0) set_direct(true);  // otherwise it is read first
}

// What was handed over is written, so that it can be resumed; whoever ends now knows of an error.
ResumableFile::~ResumableFile() {
    try {
        wait_for_writes();
    } catch (const std::exception&) {
    }
}

// The newest record of this very file; one that does not belong to it if there is none.
ResumableFile::Record ResumableFile::record_of(const TemporaryFile& file, const Layout& layout) {
    static_assert(sizeof(Record) <= kBlockBytes);
    Record newest;
    for (uint64_t i = 0; i < kRecords; ++i) {
        Record record;
        const uint64_t offset = whole_blocks(layout.n_file_bytes) + i * kBlockBytes;
        const size_t n = file.read_at(offset, std::as_writable_bytes(std::span(&record, 1)));
        if (n == sizeof record && record.belongs_to(layout) && record.sequence >= newest.sequence)
            newest = record;
    }
    return newest;
}

// Of several the one that got furthest; the others are gone after this.
void ResumableFile::adopt_leftovers() {
    for (TemporaryFile& leftover : TemporaryFile::leftovers(file_.target())) {
        const Record record = record_of(leftover, layout_);
        if (!record.belongs_to(layout_) || record.n_kept <= n_kept_) continue;
        std::swap(file_, leftover);
        n_kept_ = record.n_kept;
        checksum_ = record.kept_checksum;
        sequence_ = record.sequence;
    }
}

void ResumableFile::begin_anew() {
    n_kept_ = n_flushed_ = n_buffered_ = 0;
    checksum_ = 0;
}

bool ResumableFile::go_on_after(uint64_t n_bytes, const Visitor& visit) {
    NEMO_ASSERT(n_bytes <= n_kept_ && n_bytes >= layout_.n_head_bytes);
    buffer_.reserve(kBufferBytes);
    const uint64_t n_whole = n_bytes / kBlockBytes * kBlockBytes;
    uint32_t checksum = 0, used_checksum = 0;
    uint64_t offset = layout_.n_head_bytes;
    while (offset < n_kept_) {
        uint64_t end = std::min(n_kept_, offset + kBufferBytes);
        if (n_bytes > offset) end = std::min(end, n_bytes);
        const std::span piece(buffer_.data(), static_cast<size_t>(end - offset));
        if (file_.read_at(offset, piece) != piece.size()) break;
        checksum = crc32c(piece, checksum);
        if (end <= n_bytes) visit(piece);
        if (end == n_bytes) used_checksum = checksum;
        offset = end;
    }
    if (offset < n_kept_ || checksum != checksum_) {
        begin_anew();
        set_direct(true);
        return false;
    }
    // The last block was written in part, or is to be written anew.
    n_flushed_ = n_whole;
    n_buffered_ = static_cast<size_t>(n_bytes - n_whole);
    checksum_ = used_checksum;
    if (file_.read_at(n_whole, std::span(buffer_.data(), n_buffered_)) != n_buffered_)
        fail(ErrorCode::runtime, "{}: the file it was begun in cannot be read",
             file_.target().string());
    set_direct(true);
    return true;
}

void ResumableFile::set_direct(bool direct) {
    const int flags = ::fcntl(file_.descriptor(), F_GETFL);
    if (flags < 0) return;
    const int wanted = direct ? flags | O_DIRECT : flags & ~O_DIRECT;
    is_direct_ = ::fcntl(file_.descriptor(), F_SETFL, wanted) == 0 && direct;
}

void ResumableFile::leave_place_for_head() {
    if (n_written() > 0) return;
    const std::vector<std::byte> place(layout_.n_head_bytes);
    put(place);
    checksum_ = 0;
}

void ResumableFile::write(std::span<const std::byte> bytes) {
    leave_place_for_head();
    NEMO_ASSERT(bytes.size() <= layout_.n_file_bytes - n_written());
    put(bytes);
}

void ResumableFile::put(std::span<const std::byte> bytes) {
    // Not before they are needed: of many files only one is written at a time.
    buffer_.reserve(kBufferBytes);
    other_buffer_.reserve(kBufferBytes);
    while (!bytes.empty()) {
        const size_t n = std::min(bytes.size(), kBufferBytes - n_buffered_);
        std::memcpy(buffer_.data() + n_buffered_, bytes.data(), n);
        checksum_ = crc32c(bytes.first(n), checksum_);
        n_buffered_ += n;
        bytes = bytes.subspan(n);
        if (n_buffered_ == kBufferBytes) flush(/*is_last=*/false);
    }
}

// Hands the buffer over to be written, when the other one has been; the block it ends in is filled
// up with zeros. After the last one there is a record.
void ResumableFile::flush(bool is_last) {
    const std::span blocks(buffer_.data(), static_cast<size_t>(whole_blocks(n_buffered_)));
    std::memset(buffer_.data() + n_buffered_, 0, blocks.size() - n_buffered_);
    const Kept kept = {n_written(), checksum_};
    if (!writes_) writes_.emplace(/*max_pending=*/1);
    writes_->run([this, blocks, offset = n_flushed_, kept, is_last] {
        write_piece(blocks, offset);
        if (is_last || std::chrono::steady_clock::now() >= next_record_)
            write_record(kept, blocks.data());
    });
    std::swap(buffer_, other_buffer_);
    n_flushed_ += n_buffered_;
    n_buffered_ = 0;
}

void ResumableFile::wait_for_writes() {
    if (writes_) writes_->wait();
}

void ResumableFile::write_piece(std::span<std::byte> blocks, uint64_t offset) {
    file_.write_at(offset, blocks);
    // Pages that the system keeps are sent on their way now, so that no sync waits for all of them.
    if (!is_direct_)
        ::sync_file_range(file_.descriptor(), static_cast<off_t>(offset),
                          static_cast<off_t>(blocks.size()), SYNC_FILE_RANGE_WRITE);
}

// `block` is the start of a buffer that has been written.
void ResumableFile::write_record(const Kept& kept, std::byte* block) {
    const auto start = std::chrono::steady_clock::now();
    file_.sync(/*data_only=*/true);
    Record record = {kMagic,      layout_.identity, layout_.n_file_bytes,
                     ++sequence_, kept.n_bytes,     kept.checksum};
    record.checksum = record.expected_checksum();
    std::memset(block, 0, kBlockBytes);
    std::memcpy(block, &record, sizeof record);
    file_.write_at(whole_blocks(layout_.n_file_bytes) + sequence_ % kRecords * kBlockBytes,
                   std::span(block, kBlockBytes));
    const auto end = std::chrono::steady_clock::now();
    next_record_ = end + kTimesPerRecord * (end - start);
}

void ResumableFile::seal(std::string_view head) {
    leave_place_for_head();
    NEMO_ASSERT(n_written() == layout_.n_file_bytes && head.size() == layout_.n_head_bytes);
    flush(/*is_last=*/true);
    wait_for_writes();
    writes_.reset();
    buffer_.free();
    other_buffer_.free();
    set_direct(false);
    file_.write_at(0, std::as_bytes(std::span(head.data(), head.size())));
    file_.sync();
}

void ResumableFile::trim() {
    file_.truncate(layout_.n_file_bytes);
    file_.sync();
}

}  // namespace nemo
