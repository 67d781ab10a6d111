// Bytes of mapped files, read into memory in large pieces before they are used.
//
// Going through a large file by its mapping means a page fault every few pages, a wait for the disk
// in each, and a page cache that pushes everything else out. This reads what is not in the page
// cache directly from the disk, where the file system can, into memory that is used again.
#pragma once

#include "core/block_buffer.h"
#include "core/mapped_file.h"

#include <cstddef>
#include <span>
#include <vector>

namespace nemo {

class LoadedBytes {
public:
    // Replaces what was loaded before. Throws Error{bad_file} naming the file if it has been
    // replaced or cut off since it was mapped, or the disk fails.
    void load(std::span<const MappedRange> ranges);

    // Where these bytes of a mapped file are: in memory if one of the loaded ranges holds them,
    // otherwise in the mapping.
    const std::byte* find(std::span<const std::byte> mapped) const;

private:
    struct Piece {
        std::span<const std::byte> mapped;
        const std::byte* data;
    };
    std::vector<Piece> pieces_;
    BlockBuffer memory_;
};

}  // namespace nemo
