// Kept states on disk while the program runs, where memory is short.
//
// They are written as they are, with a checksum: packing them (models/state_blocks.h) takes longer
// than writing and saves a seventh. A page that several states share is written once.
#pragma once

#include "core/spill_file.h"
#include "models/sequence_state.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace nemo {

// Bytes in the spill file, given back with the last user.
class SpilledBytes {
public:
    SpilledBytes(std::shared_ptr<SpillFile> file, std::span<const std::byte> bytes);
    ~SpilledBytes();
    SpilledBytes(const SpilledBytes&) = delete;
    SpilledBytes& operator=(const SpilledBytes&) = delete;

    // Throws Error{bad_file} if they are not what was written.
    void read(std::span<std::byte> bytes) const;

private:
    std::shared_ptr<SpillFile> file_;
    uint64_t offset_;
    uint64_t n_bytes_;
    uint32_t crc_;
};

struct SpilledPage {
    SpilledBytes bytes;
    int64_t n_rows;
    std::weak_ptr<KvPage> origin;
    uint64_t n_rewrites;  // of the origin then: if it has more now, it is another page

    std::shared_ptr<KvPage> in_memory() const;  // null if it is gone
};

class StateSpill {
public:
    // At most `limit` bytes, 0: a quarter of what the disk has left at the first use.
    StateSpill(std::filesystem::path folder, int64_t limit, const SequenceState& layout)
        : folder_(std::move(folder)), limit_(limit), layout_(layout) {}

    // Throw Error{runtime} if the disk does not take it.
    std::shared_ptr<const SpilledBytes> spill_recurrent(const FloatBuffer& recurrent);
    std::shared_ptr<SpilledPage> spill_page(const std::shared_ptr<KvPage>& page);
    // Throws Error{bad_file}. The page is the one in memory if it is still there.
    std::shared_ptr<KvPage> load_page(const std::shared_ptr<SpilledPage>& spilled);

    int64_t n_bytes() const;
    bool is_full() const { return n_bytes() > limit_; }

private:
    void open();

    std::filesystem::path folder_;
    int64_t limit_;
    const SequenceState& layout_;
    std::shared_ptr<SpillFile> file_;  // made when it is needed
    std::unordered_map<const KvPage*, std::weak_ptr<SpilledPage>> spilled_pages_;
};

}  // namespace nemo
