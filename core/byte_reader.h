// Reads little-endian values from a buffer that may end too early. Every read is checked; errors
// name the source, what was being read and the byte counts.
#pragma once

#include "core/error.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace nemo {

class ByteReader {
public:
    ByteReader(std::span<const std::byte> bytes, std::string source)
        : bytes_(bytes), source_(std::move(source)) {}

    size_t offset() const { return offset_; }
    size_t n_left() const { return bytes_.size() - offset_; }
    const std::string& source() const { return source_; }

    template <class T>
    requires std::is_arithmetic_v<T> T read(std::string_view what) {
        T value;
        std::memcpy(&value, take(sizeof value, what), sizeof value);
        return value;
    }

    // Bytes are not copied and stay valid as long as the buffer.
    std::string_view read_text(uint64_t n_bytes, std::string_view what) {
        const std::byte* start = take(n_bytes, what);
        return {reinterpret_cast<const char*>(start), static_cast<size_t>(n_bytes)};
    }

    // Throws unless `count` items of at least `min_item_bytes` each can still follow: to be asked
    // before memory is reserved for them.
    void require_items(uint64_t count, uint64_t min_item_bytes, std::string_view what) const {
        if (count > n_left() / min_item_bytes)
            fail(ErrorCode::bad_file,
                 "{}: {} claims {} items of at least {} bytes, but only {} bytes are left", source_,
                 what, count, min_item_bytes, n_left());
    }

private:
    const std::byte* take(uint64_t n_bytes, std::string_view what) {
        if (n_bytes > n_left())
            fail(ErrorCode::bad_file, "{}: {} at byte {} needs {} bytes, but only {} are left",
                 source_, what, offset_, n_bytes, n_left());
        const std::byte* start = bytes_.data() + offset_;
        offset_ += static_cast<size_t>(n_bytes);
        return start;
    }

    std::span<const std::byte> bytes_;
    size_t offset_ = 0;
    std::string source_;
};

}  // namespace nemo
