// Writes a large file in one pass, as core/atomic_file.h does: the target is at every moment the
// old one or the complete new one. Two things differ, for files that take minutes.
//
// Resuming. The temporary file says how far it is on the disk: after an fdatasync, one of two
// records behind the place of the finished file's last byte is replaced, in turn, so that the other
// stays whole whatever happens. A record holds the identity of what is being written and a checksum
// of what is kept. The head (a header with checksums in it) is known last and written last.
//
// Direct writes, where the file system can: the pages would otherwise push others out of memory,
// and writing them back at the end would take as long as everything else. One buffer is filled
// while another is on its way to the disk.
#pragma once

#include "core/background_tasks.h"
#include "core/block_buffer.h"
#include "core/temporary_file.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

enum class OnRestart {
    start_over,  // what a killed run left is removed; if this run fails, it leaves nothing
    resume,      // what a killed run left is used; if this run fails, it can be resumed
};

class ResumableFile {
public:
    struct Layout {
        uint64_t n_head_bytes = 0;
        uint64_t n_file_bytes = 0;  // with the head
        uint64_t identity = 0;      // the same for two runs only if they write the same bytes
    };

    // Takes the space of the whole file. Throws Error{runtime} as TemporaryFile does.
    ResumableFile(const std::filesystem::path& target, const Layout& layout, OnRestart on_restart);
    ~ResumableFile();
    ResumableFile(const ResumableFile&) = delete;
    ResumableFile& operator=(const ResumableFile&) = delete;

    // Bytes at the start of the file, the head included, that an earlier run left; 0: none.
    uint64_t n_kept() const { return n_kept_; }
    // Goes on after the first `n_bytes` of them, which `visit` sees, without the head, in pieces.
    // False, and all is as if there were none, if they are not what was written.
    using Visitor = std::function<void(std::span<const std::byte>)>;
    bool go_on_after(uint64_t n_bytes, const Visitor& visit);

    // What follows the head.
    void write(std::span<const std::byte> bytes);
    // All is written: completes the file on the disk, still under its temporary name.
    void seal(std::string_view head);
    // Takes what is behind the last byte away; then publish() only renames.
    void trim();
    void publish() { file_.publish(); }

    // Head included.
    uint64_t n_written() const { return n_flushed_ + n_buffered_; }

private:
    struct Record;

    static Record record_of(const TemporaryFile& file, const Layout& layout);
    void adopt_leftovers();
    void begin_anew();
    void leave_place_for_head();
    void put(std::span<const std::byte> bytes);
    void flush(bool is_last);
    void wait_for_writes();
    void write_piece(std::span<std::byte> blocks, uint64_t offset);
    void set_direct(bool direct);

    // What is on the disk once a piece has been written.
    struct Kept {
        uint64_t n_bytes;
        uint32_t checksum;
    };
    void write_record(const Kept& kept, std::byte* block);

    Layout layout_;
    TemporaryFile file_;
    BlockBuffer buffer_;
    BlockBuffer other_buffer_;  // being written, or free
    size_t n_buffered_ = 0;
    uint64_t n_flushed_ = 0;  // where the buffer begins in the file, a multiple of the block size
    uint64_t n_kept_ = 0;
    uint32_t checksum_ = 0;  // of the bytes from the head's end to the last one
    bool is_direct_ = false;

    // Used by the task alone while one is pending.
    uint64_t sequence_ = 0;
    std::chrono::steady_clock::time_point next_record_ = {};
    std::optional<BackgroundTasks> writes_;
};

}  // namespace nemo
