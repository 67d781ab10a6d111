// Kept states of a session: places from which reading can go on without starting over.
//
// A checkpoint is a copy of the recurrent state, a share of the key-value pages and the token ids
// that led there; it is found by comparing ids. All of them together stay within a budget. What
// goes first when it is used up: checkpoints at even distances in a long prompt, then states that
// were left for another branch, then those the caller asked for (the structure of the chat), then
// those at which two kept continuations part, and the newest of all last; the least recently used
// of its class first. With a folder to spill to, it goes to disk and comes back when it is used;
// pages go there when no state in memory has them any more.
#pragma once

#include "models/sequence_state.h"
#include "models/state_spill.h"

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <vector>

namespace nemo {

enum class CheckpointKind { periodic, left, chat };

// Throws Error{bad_file}.
using ReadRecurrent = std::function<void(std::span<float>)>;

struct Checkpoint {
    std::vector<int32_t> tokens;
    CheckpointKind kind;
    StateSnapshot state;
    uint64_t last_use = 0;  // larger is later
    // What is not in `state`, because it was spilled or has not left the file of an earlier
    // session.
    ReadRecurrent read_recurrent;
    std::vector<std::shared_ptr<SpilledPage>> pages_on_disk;  // null: in memory

    bool in_memory() const { return read_recurrent == nullptr; }
};

struct CheckpointLimits {
    int64_t budget = 0;                  // bytes in memory
    std::filesystem::path spill_folder;  // empty: what does not fit is lost
    int64_t spill_budget = 0;            // bytes there; 0: a quarter of what the disk has left
};

// Number of tokens that both start with.
int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b);

class Checkpoints {
public:
    // Counted are recurrent states and the pages that `live` does not hold anyway.
    Checkpoints(const SequenceState& live, const CheckpointLimits& limits);

    // The longest prefix of `ids`, shorter than all of them, whose state is kept; null: none.
    Checkpoint* find(std::span<const int32_t> ids);
    // A copy of its state, straight from the disk if it is there; nullopt if the disk lost it: then
    // the checkpoint is gone. Throws Error{out_of_memory}, and the checkpoint stays where it is.
    std::optional<StateSnapshot> copy(Checkpoint& checkpoint);
    // Brings all of a checkpoint back into memory; fails as copy().
    bool load(Checkpoint& checkpoint);
    Checkpoint* find_exact(std::span<const int32_t> ids);
    // Up to `n` that the caller asked for: first those on the way to `tokens`, from their end, then
    // others, the newest first.
    std::vector<Checkpoint*> best_to_save(std::span<const int32_t> tokens, size_t n);
    // How much of `ids` can be reused of what `tokens` led to: all of a strict prefix, or what is
    // common if the state can be cut.
    int64_t n_reusable(std::span<const int32_t> tokens, std::span<const int32_t> ids) const;

    // Whether one more state fits as it is.
    bool has_room() const { return n_bytes() + live_.recurrent_bytes() <= budget_; }
    // Whether a new state fits, after others were dropped for it that are worth less.
    bool make_room(CheckpointKind kind, std::span<const int32_t> live_tokens);
    void add(Checkpoint checkpoint);
    void touch(Checkpoint& checkpoint) { checkpoint.last_use = ++clock_; }
    // Leaves ever fewer of the periodic checkpoints of a text, the further back they are.
    void thin_out(std::span<const int32_t> tokens, int64_t interval);
    // Drops or spills until all fits.
    void enforce_budget(std::span<const int32_t> live_tokens);
    void clear() noexcept { items_.clear(); }

    const std::list<Checkpoint>& items() const { return items_; }
    int64_t budget() const { return budget_; }
    int64_t n_bytes() const;  // in memory
    int64_t n_spilled_bytes() const { return spill_ ? spill_->n_bytes() : 0; }
    // Why the last state that should have been spilled or brought back was lost; empty: none was.
    const std::string& spill_problem() const { return spill_problem_; }

private:
    using Iterator = std::list<Checkpoint>::iterator;
    std::optional<StateSnapshot> state_from_disk(Checkpoint& checkpoint);
    bool drop_for(int64_t n_more, int most, std::span<const int32_t> live_tokens);
    void put_away(Iterator item);
    bool spill_orphaned_pages();
    void limit_spill();
    // The last kept states before two kept texts part.
    std::vector<const Checkpoint*> branch_points(std::span<const int32_t> live_tokens) const;

    const SequenceState& live_;
    int64_t budget_;
    std::optional<StateSpill> spill_;
    std::string spill_problem_;
    uint64_t clock_ = 0;
    std::list<Checkpoint> items_;
};

}  // namespace nemo
