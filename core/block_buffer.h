// Uninitialized memory that can be read and written directly from and to the disk. Its size is a
// multiple of the block size, and so is its address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace nemo {

constexpr size_t kBlockBytes = 4096;  // a multiple of every disk's sectors

// The next multiple of it.
constexpr uint64_t whole_blocks(uint64_t n_bytes) {
    return (n_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

class BlockBuffer {
public:
    // At least `n_bytes` afterwards; what it held is lost if it has to grow.
    void reserve(size_t n_bytes) {
        if (n_bytes <= n_bytes_) return;
        free();
        n_bytes = whole_blocks(n_bytes);
        data_.reset(static_cast<std::byte*>(::operator new[](n_bytes, kAlignment)));
        n_bytes_ = n_bytes;
    }
    void free() {
        data_.reset();
        n_bytes_ = 0;
    }

    std::byte* data() const { return data_.get(); }

private:
    static constexpr std::align_val_t kAlignment{kBlockBytes};
    struct Delete {
        void operator()(std::byte* data) const { ::operator delete[](data, kAlignment); }
    };
    std::unique_ptr<std::byte[], Delete> data_;
    size_t n_bytes_ = 0;
};

}  // namespace nemo
