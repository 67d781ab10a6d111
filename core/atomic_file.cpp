#include "core/atomic_file.h"

#include "core/error.h"

namespace nemo {

namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

}  // namespace

void refuse_to_replace(const std::filesystem::path& target, const std::filesystem::path& source) {
    std::error_code ignored;  // set if one of them is not there
    if (std::filesystem::equivalent(target, source, ignored))
        fail(ErrorCode::usage, "{}: is read, and so cannot be written", target.string());
}

void refuse_existing(const std::filesystem::path& target, bool force) {
    if (!force && std::filesystem::exists(target))
        fail(ErrorCode::runtime, "{}: exists already; --force replaces it", target.string());
}

AtomicFile::AtomicFile(const std::filesystem::path& target, FileAccess access)
    : file_(target, access) {
    TemporaryFile::leftovers(target);  // and they are gone
    buffer_.reserve(kBufferBytes);
}

void AtomicFile::reserve(uint64_t n_bytes) {
    reserved_ |= file_.reserve(n_bytes);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    if (buffer_.size() + bytes.size() > kBufferBytes) flush();
    if (bytes.size() < kBufferBytes) {
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
        return;
    }
    file_.write_at(n_flushed_, bytes);
    n_flushed_ += bytes.size();
}

void AtomicFile::write(std::string_view text) {
    write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::flush() {
    file_.write_at(n_flushed_, buffer_);
    n_flushed_ += buffer_.size();
    buffer_.clear();
}

void AtomicFile::overwrite(uint64_t offset, std::span<const std::byte> bytes) {
    NEMO_ASSERT(offset <= n_written() && bytes.size() <= n_written() - offset);
    flush();
    file_.write_at(offset, bytes);
}

void AtomicFile::commit() {
    flush();
    if (reserved_) file_.truncate(n_flushed_);
    file_.sync();
    file_.publish();
}

}  // namespace nemo
