// The ids of recent pieces of a text, for the length of one encode() call: natural text repeats its
// words. A slot is overwritten by the next piece that falls on it. Keys point into the text, which
// must outlive the cache.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace nemo {

class PieceCache {
public:
    explicit PieceCache(size_t n_text_bytes)
        : slots_(std::bit_ceil(std::clamp(n_text_bytes / 16, size_t{16}, size_t{1} << 15))) {}

    // Appends the ids if `piece` is known.
    bool find(std::string_view piece, std::vector<int32_t>& ids) const {
        const Slot& slot = slots_[index_of(piece)];
        if (slot.piece != piece) return false;
        ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.n_ids);
        return true;
    }

    void store(std::string_view piece, const std::vector<int32_t>& ids) {
        if (ids.size() > kMaxIds) return;
        Slot& slot = slots_[index_of(piece)];
        slot.piece = piece;
        slot.n_ids = static_cast<int32_t>(ids.size());
        std::copy(ids.begin(), ids.end(), slot.ids.begin());
    }

private:
    static constexpr size_t kMaxIds = 11;
    struct Slot {
        std::string_view piece;  // empty: free, pieces are not
        int32_t n_ids = 0;
        std::array<int32_t, kMaxIds> ids{};
    };

    size_t index_of(std::string_view piece) const {
        return std::hash<std::string_view>()(piece) & (slots_.size() - 1);
    }

    std::vector<Slot> slots_;
};

}  // namespace nemo
