// Ids of tokens by spelling. Built three times from a vocabulary at every start of the program,
// which is why it is a flat table of 8 bytes per slot instead of a std::unordered_map.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class TokenIndex {
public:
    // Of ids into `spellings`, which must outlive this object and be whole before the first insert.
    explicit TokenIndex(const std::vector<std::string>& spellings)
        : spellings_(spellings), slots_(std::bit_ceil(2 * spellings.size() + 2)) {}

    // The id inserted before whose spelling is the same; -1 if there was none and `id` now is.
    int32_t insert(int32_t id) {
        const std::string_view spelling = spellings_[static_cast<size_t>(id)];
        Slot& slot = slots_[slot_of(spelling)];
        if (slot.id >= 0) return slot.id;
        slot = {hash_of(spelling), id};
        return -1;
    }

    // -1: none.
    int32_t find(std::string_view spelling) const { return slots_[slot_of(spelling)].id; }

private:
    struct Slot {
        uint32_t hash = 0;
        int32_t id = -1;
    };

    static uint32_t hash_of(std::string_view spelling) {
        return static_cast<uint32_t>(std::hash<std::string_view>()(spelling));
    }

    // Where it is, or would be.
    size_t slot_of(std::string_view spelling) const {
        const uint32_t hash = hash_of(spelling);
        size_t i = hash & (slots_.size() - 1);
        while (slots_[i].id >= 0 && (slots_[i].hash != hash ||
                                     spellings_[static_cast<size_t>(slots_[i].id)] != spelling))
            i = (i + 1) & (slots_.size() - 1);
        return i;
    }

    const std::vector<std::string>& spellings_;
    std::vector<Slot> slots_;
};

}  // namespace nemo
