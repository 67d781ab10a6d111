// Bytes of mapped files, brought into memory in large pieces before they are used.
//
// Going through a large file by its mapping means a page fault every few pages, a wait for the disk
// in each, a page cache that pushes everything else out, and a program that seems to hold the whole
// file. This reads what is not in the page cache directly from the disk, where the file system can,
// into memory that is used again. What is in the page cache is mapped, once more, for as long as it
// is used: a copy of it would cost as much as a simple format's encoder.
#pragma once

#include "core/block_buffer.h"
#include "core/mapped_file.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

class LoadedBytes {
public:
    // Replaces what was loaded before. Throws Error{bad_file} naming the file if it has been
    // replaced or cut off since it was mapped, or the disk fails.
    void load(std::span<const MappedRange> ranges);

    // Where these bytes of a mapped file are: where they were loaded if one of the ranges holds
    // them, otherwise in the mapping.
    const std::byte* find(std::span<const std::byte> mapped) const;

private:
    // Pages of an open file, mapped and present.
    class Pages {
    public:
        // data() is null if they cannot be mapped. `offset` is a multiple of the block size.
        Pages(int descriptor, uint64_t offset, size_t n_bytes);
        ~Pages();
        Pages(Pages&& other) noexcept;
        Pages& operator=(Pages&&) = delete;

        const std::byte* data() const { return data_; }

    private:
        const std::byte* data_;
        size_t n_bytes_;
    };
    struct Piece {
        std::span<const std::byte> mapped;
        const std::byte* data;
    };
    std::vector<Piece> pieces_;
    std::vector<Pages> pages_;  // of the pieces that are not in the memory
    BlockBuffer memory_;
};

}  // namespace nemo
