// Ids of tokens by spelling. Built from the vocabulary at every start of the program, which is why
// it is a flat table of 8 bytes per slot instead of a std::unordered_map, and why whoever looks up
// many spellings can fetch what several of them need before the first one waits for it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class TokenIndex {
public:
    // A spelling with its hash.
    struct Key {
        std::string_view spelling;
        uint32_t hash;
    };

    // Of ids into `spellings`: their elements must outlive this object and be whole before the
    // first insert.
    explicit TokenIndex(const std::vector<std::string>& spellings)
        : spellings_(spellings.data()), slots_(std::bit_ceil(2 * spellings.size() + 2)) {}

    // The hash of the same bytes is the same in this process only.
    static Key key_of(std::string_view spelling) { return {spelling, hash_of(spelling)}; }

    // The id inserted before whose spelling is the same; -1 if there was none and `id` now is.
    int32_t insert(int32_t id, const Key& key) {
        Slot& slot = slots_[slot_of(key)];
        if (slot.id >= 0) return slot.id;
        slot = {key.hash, id};
        return -1;
    }

    // -1: none.
    int32_t find(const Key& key) const { return slots_[slot_of(key)].id; }
    int32_t find(std::string_view spelling) const { return find(key_of(spelling)); }

    // Fetches the slot that a later call with this key looks at first, then what the slot points
    // to.
    void fetch_slot(const Key& key) const { __builtin_prefetch(&slots_[first_slot(key)]); }
    void fetch_spelling(const Key& key) const {
        const int32_t id = slots_[first_slot(key)].id;
        if (id >= 0) __builtin_prefetch(spellings_ + id);
    }

private:
    struct Slot {
        uint32_t hash = 0;
        int32_t id = -1;
    };

    // Nobody can write a vocabulary whose spellings all meet in one slot without knowing it.
    static inline const uint64_t kSeed = std::random_device()();

    static uint32_t hash_of(std::string_view spelling) {
        constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
        uint64_t hash = (kSeed ^ spelling.size()) * kFactor;
        const auto mix = [&](uint64_t bytes) {
            hash = (hash ^ bytes) * kFactor;
            hash ^= hash >> 32;
        };
        uint64_t bytes = 0;
        for (; spelling.size() >= sizeof bytes; spelling.remove_prefix(sizeof bytes)) {
            std::memcpy(&bytes, spelling.data(), sizeof bytes);
            mix(bytes);
        }
        bytes = 0;
        for (const char c : spelling) bytes = bytes << 8 | static_cast<uint8_t>(c);
        mix(bytes);
        return static_cast<uint32_t>(hash);
    }

    size_t first_slot(const Key& key) const { return key.hash & (slots_.size() - 1); }

    // Where it is, or would be.
    size_t slot_of(const Key& key) const {
        size_t i = first_slot(key);
        while (slots_[i].id >= 0 &&
               (slots_[i].hash != key.hash || spellings_[slots_[i].id] != key.spelling))
            i = (i + 1) & (slots_.size() - 1);
        return i;
    }

    const std::string* spellings_;
    std::vector<Slot> slots_;
};

}  // namespace nemo
