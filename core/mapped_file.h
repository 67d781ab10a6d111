// A file mapped read-only into memory.
#pragma once

#include <cstddef>
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

private:
    std::string path_;
    const std::byte* data_ = nullptr;
    size_t n_bytes_ = 0;
};

// Lets go of the memory that holds these bytes of a MappedFile, and no other bytes: those would be
// lost. They are read again when they are touched.
void release_mapped(std::span<const std::byte> bytes);

// For programs, once at start: a mapped page that cannot be read any more (the file was truncated,
// the disk failed) ends the program with a message and the status of Error{bad_file} instead of a
// signal.
void install_lost_page_handler();

}  // namespace nemo
