// Locks between programs: single bytes of a lock file, released by the kernel when the program
// ends, however it ends. Two locks of one program exclude each other as well.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

namespace nemo {

class FileLock {
public:
    enum class Kind { shared, exclusive };

    // Waits up to `patience` for byte `offset` of `file`, which is created (mode 0600) if missing.
    // nullopt: somebody else has it. Throws Error{runtime} if the file cannot be opened or locked.
    static std::optional<FileLock> take(const std::filesystem::path& file, int64_t offset,
                                        Kind kind, std::chrono::milliseconds patience = {});
    ~FileLock();
    FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    FileLock& operator=(FileLock&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }

private:
    explicit FileLock(int descriptor) : descriptor_(descriptor) {}
    int descriptor_ = -1;
};

}  // namespace nemo
