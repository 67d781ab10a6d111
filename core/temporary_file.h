// The file beside a target that becomes the target when it is complete: random name, locked while
// somebody writes it, so that an unlocked one is what a killed program left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace nemo {

enum class FileAccess { as_umask, owner_only };

class TemporaryFile {
public:
    // Creates one. Throws Error{runtime} if the folder cannot be written, or the target is there
    // but is no regular file.
    explicit TemporaryFile(const std::filesystem::path& target,
                           FileAccess access = FileAccess::as_umask);
    // Removes the file, unless publish() or keep() was called.
    ~TemporaryFile();
    TemporaryFile(TemporaryFile&& other) noexcept;
    TemporaryFile& operator=(TemporaryFile&& other) noexcept;

    // Those of this target that killed programs left behind, now locked by us.
    static std::vector<TemporaryFile> leftovers(const std::filesystem::path& target);

    int descriptor() const { return descriptor_; }
    const std::filesystem::path& target() const { return target_; }

    // Takes the space from the disk now, where the file system can; throws Error{runtime} with both
    // sizes if the disk is too full. True if something was taken, which truncate() gives back.
    bool reserve(uint64_t n_bytes);
    void truncate(uint64_t n_bytes);
    void write_at(uint64_t offset, std::span<const std::byte> bytes);
    // As many bytes as there are, up to all that are asked for.
    size_t read_at(uint64_t offset, std::span<std::byte> bytes) const;
    // Everything written is on the disk. data_only: without times, as far as reading does not need
    // them.
    void sync(bool data_only = false);
    // Gives the file the target's name, durably. Call sync() before.
    void publish();
    // The file stays when this object goes.
    void keep() { is_kept_ = true; }

private:
    TemporaryFile(std::filesystem::path target, std::filesystem::path path, int descriptor)
        : target_(std::move(target)), path_(std::move(path)), descriptor_(descriptor) {}
    [[noreturn]] void fail_to(const char* action) const;

    std::filesystem::path target_;
    std::filesystem::path path_;  // empty once published
    int descriptor_ = -1;
    bool is_kept_ = false;
};

}  // namespace nemo
