// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace nemo {

class MappedFile {
public:
    // Throws Error{bad_file} if the path is not a readable regular file.
    static MappedFile open(const std::filesystem::path& path);
    MappedFile() = default;
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    // Empty for an empty file.
    std::span<const std::byte> bytes() const { return {data_, n_bytes_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), n_bytes_}; }
    const std::string& path() const { return path_; }

    // A descriptor of the same file to read it by other means, with these flags of open() besides;
    // -1: it cannot be opened so, or another file has its path now.
    int reopen(int flags) const;

private:
    std::string path_;
    const std::byte* data_ = nullptr;
    size_t n_bytes_ = 0;
    uint64_t device_ = 0;
    uint64_t number_ = 0;  // the file's on the device
};

struct MappedRange {
    const MappedFile* file;
    std::span<const std::byte> bytes;
};

// For programs, once at start: a mapped page that cannot be read any more (the file was truncated,
// the disk failed) ends the program with a message and the status of Error{bad_file} instead of a
// signal.
void install_lost_page_handler();

}  // namespace nemo
