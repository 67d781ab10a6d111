// Kept states of a session: places from which reading can go on without starting over.
//
// A checkpoint is a copy of the recurrent state, a share of the key-value pages and the token ids
// that led there; it is found by comparing ids. All of them together stay within a budget. What
// goes first when it is used up: checkpoints at even distances in a long prompt, then states that
// were left for another branch, then those the caller asked for (the structure of the chat), then
// those at which two kept continuations part, and the newest of all last; the least recently used
// of its class first.
#pragma once

#include "models/sequence_state.h"

#include <cstdint>
#include <list>
#include <span>
#include <vector>

namespace nemo {

enum class CheckpointKind { periodic, left, chat };

struct Checkpoint {
    std::vector<int32_t> tokens;
    CheckpointKind kind;
    StateSnapshot state;
    uint64_t last_use = 0;  // larger is later
};

// Number of tokens that both start with.
int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b);

class Checkpoints {
public:
    // Kept are at most `budget` bytes of recurrent states and of pages that `live` does not hold
    // anyway.
    Checkpoints(const SequenceState& live, int64_t budget) : live_(live), budget_(budget) {}

    // The longest prefix of `ids`, shorter than all of them, whose state is kept; null: none.
    Checkpoint* find(std::span<const int32_t> ids);
    Checkpoint* find_exact(std::span<const int32_t> ids);
    // Up to `n` that the caller asked for: first those on the way to `tokens`, from their end, then
    // others, the newest first.
    std::vector<const Checkpoint*> best_to_save(std::span<const int32_t> tokens, size_t n) const;
    // How much of `ids` can be reused of what `tokens` led to: all of a strict prefix, or what is
    // common if the state can be cut.
    int64_t n_reusable(std::span<const int32_t> tokens, std::span<const int32_t> ids) const;

    // Whether a new state fits, after others were dropped for it that are worth less.
    bool make_room(CheckpointKind kind, std::span<const int32_t> live_tokens);
    void add(Checkpoint checkpoint);
    void touch(Checkpoint& checkpoint) { checkpoint.last_use = ++clock_; }
    // Leaves ever fewer of the periodic checkpoints of a text, the further back they are.
    void thin_out(std::span<const int32_t> tokens, int64_t interval);
    // Drops until all fits.
    void enforce_budget(std::span<const int32_t> live_tokens);
    void clear() { items_.clear(); }

    const std::list<Checkpoint>& items() const { return items_; }
    int64_t n_bytes() const;
    int64_t budget() const { return budget_; }

private:
    using Iterator = std::list<Checkpoint>::iterator;
    bool drop_for(int64_t n_more, int most, std::span<const int32_t> live_tokens);
    // The last kept states before two kept texts part.
    std::vector<const Checkpoint*> branch_points(std::span<const int32_t> live_tokens) const;

    const SequenceState& live_;
    int64_t budget_;
    uint64_t clock_ = 0;
    std::list<Checkpoint> items_;
};

}  // namespace nemo
