// One conversation with a model: its tokens, the state they led to, and states kept from earlier
// (models/checkpoints.h), so that nothing is read twice.
#pragma once

#include "models/checkpoints.h"
#include "models/model.h"
#include "models/state_file.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace nemo {

struct SessionOptions {
    int64_t n_context =
        0;                // most tokens a session may hold; 0: the length the model was trained for
    int64_t chunk = 256;  // prompt tokens taken in at once; bounds scratch memory and stop latency
    KvTypes kv_types;     // number formats of the key-value caches
    int64_t state_budget = 0;  // bytes of kept states; 0: a quarter of the memory that is free now
    std::filesystem::path spill_folder;  // where states go that do not fit; empty: they are lost
    int64_t spill_budget = 0;            // bytes there; 0: a quarter of what the disk has left
    int64_t checkpoint_interval = 2048;  // between checkpoints inside a long prompt; 0: none
};

struct SaveOptions {
    // Two, for another answer and for an edit of the last message.
    size_t n_checkpoints = 2;
    // Rounded states are smaller; what follows from them is close to, but not the same as, what
    // follows from exact ones.
    StateCoding coding = StateCoding::exact;
};

struct SyncResult {
    std::span<const float> logits;  // [n_vocab] after the last id; empty if cancelled
    int64_t n_reused = 0;           // tokens whose state was there already
    int64_t n_read = 0;             // tokens that the model took in now
    bool cancelled = false;
};

class Session {
public:
    Session(const Model& model, const SessionOptions& options);

    const std::vector<int32_t>& tokens() const { return tokens_; }
    int64_t n_context() const { return n_context_; }
    const SequenceState& state() const { return state_; }
    const Checkpoints& checkpoints() const { return checkpoints_; }
    // Of checkpoints in memory, and of memory for the next ones.
    int64_t n_kept_bytes() const;
    // Forgets everything.
    void reset() noexcept;

    // Asked before each chunk; true ends the call early, with the state at a chunk's border.
    using Cancelled = std::function<bool()>;

    // Makes the session hold exactly `ids`, reading no more of them than it must: it goes on from
    // its own state or from the checkpoint that is the longest prefix. A state that is left for
    // another branch becomes a checkpoint itself. `checkpoints`: positions, ascending and at most
    // ids.size(), where to leave one; those that lie in what was reused are left out unless a state
    // is at hand. The logits are those of a fresh session that reads `ids` in the same chunks, to
    // the bit; they are valid until the next call. Throws Error{context_full} before changing
    // anything if ids do not fit, Error{usage} if there are none or one is outside the vocabulary.
    // After a cancelled call the session holds what was read; after a failed one, that or nothing,
    // and checkpoints stay.
    SyncResult sync(std::span<const int32_t> ids, std::span<const int64_t> checkpoints = {},
                    const Cancelled& cancelled = {});
    // Writes the state and the checkpoints that are most likely to be needed to a file that only
    // the user may read. Throws Error{runtime} if it cannot be written.
    void save(const std::filesystem::path& path, const SaveOptions& options = {});
    // For another thread, while nothing changes the session: the first and longer part of save(),
    // with one thread and of checkpoints only those in memory. The caller commits the file, and the
    // session may go on then, or as soon as `cancelled` has said true, which is asked every few
    // milliseconds. nullopt if it has.
    std::optional<AtomicFile> write_states(const std::filesystem::path& path,
                                           const SaveOptions& options, const Cancelled& cancelled);
    // Becomes what was saved. Throws Error{bad_file} with the reason if the file is damaged or does
    // not belong to this model, these cache types and this context; the session stays as it was.
    void restore(const std::filesystem::path& path);

    // Gets the memory that the next message may take, as far as the budget goes. For a moment in
    // which nobody waits: fresh memory costs more than what is done with it.
    void prepare();

    // Tokens of `ids` that sync() would not have to read.
    int64_t n_reusable(std::span<const int32_t> ids) const;

    // Appends tokens and returns the logits [n_vocab] after the last one, valid until the next
    // call; empty if cancelled. Leaves no checkpoints. Throws as sync().
    std::span<const float> append(std::span<const int32_t> tokens, const Cancelled& cancelled = {});

    // The same, but hands out the logits of every token: sink(rows [n, n_vocab]) per chunk, in
    // order.
    using LogitsSink = std::function<void(std::span<const float> rows)>;
    void append_with_logits(std::span<const int32_t> tokens, const LogitsSink& sink);

    // The logits [n, n_vocab] after each of 1 to kMostLookedAt tokens, if they were appended one by
    // one, to the bit; valid until the next call. The session stays as it is. Throws as append().
    static constexpr int64_t kMostLookedAt = 16;
    std::span<const float> look_at(std::span<const int32_t> tokens);
    // Appends the first n_tokens of what the call before looked at, without reading them again.
    void take_in(int64_t n_tokens);

private:
    class BudgetGuard;
    size_t n_spare_allowed() const;
    std::optional<AtomicFile> write_states(const std::filesystem::path& path,
                                           std::span<const Checkpoint* const> kept,
                                           const StateFileOptions& options) const;
    void check_tokens(std::span<const int32_t> tokens, int64_t n_before) const;
    int64_t n_reusable_live(std::span<const int32_t> ids) const;
    // The recurrent state is in memory afterwards. Throws Error{bad_file} if the disk lost it: then
    // the session holds nothing.
    void bring_live_state();
    Checkpoint leave_live_state();
    // The state was left in the middle of something.
    void forget_tokens() noexcept;
    void go_back_to_prefix(std::span<const int32_t> ids);
    // Those of positions (begin, end], to be filled while these tokens are read.
    std::vector<Checkpoint> begin_checkpoints(std::span<const int32_t> ids, int64_t begin,
                                              int64_t end, std::span<const int64_t> positions);
    void keep(std::vector<Checkpoint> begun);
    void read(std::span<const int32_t> chunk, int64_t n_logits,
              std::span<const StateCapture> captures = {});

    const Model& model_;
    int64_t n_context_;
    int64_t chunk_;
    int64_t interval_;
    Workspace work_;
    SequenceState state_;
    std::vector<int32_t> tokens_;
    std::vector<float> logits_;
    bool has_logits_ = false;  // logits_ are those of the last token
    Checkpoints checkpoints_;
    ReadRecurrent live_in_file_;      // the live state, as long as a file has the same
    std::vector<int32_t> looked_at_;  // by the last call
    std::unique_ptr<DraftInputs> draft_inputs_;
};

}  // namespace nemo
