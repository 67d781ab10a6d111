// States of a session in a file, for the next start of the program: the live state with its last
// logits, and some checkpoints. Pages that several states share are stored once. What the file may
// look like: models/state_directory.h.
#pragma once

#include "core/atomic_file.h"
#include "models/checkpoints.h"
#include "models/model.h"
#include "models/state_blocks.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace nemo {

struct StateView {
    std::span<const int32_t> tokens;
    std::span<const float> recurrent;
    const KvPages& pages;
    std::optional<CheckpointKind> kind;  // none: the live state, which comes first
};

struct StateFileOptions {
    StateCoding coding = StateCoding::exact;
    int n_threads = 0;  // 0: one per core
    // Asked before each block, by any thread. After it has said so nothing is read any more.
    std::function<bool()> cancelled;
};

// `layout`: any state of the session. `logits`: after the live state's last token, or empty. The
// file takes the place of `path` when the caller commits it; it is readable by nobody else. nullopt
// if it was cancelled. Throws Error{runtime}.
std::optional<AtomicFile> write_state_file(const std::filesystem::path& path, const Model& model,
                                           const SequenceState& layout,
                                           std::span<const StateView> states,
                                           std::span<const float> logits,
                                           const StateFileOptions& options);

struct StoredStates {
    std::optional<Checkpoint> live;  // in memory, and as long as it is the same, in the file
    std::vector<float> logits;
    // In the order of the file, as many as fit into the budget. Their recurrent states stay there
    // until they are used; the file may be replaced and removed, but not changed.
    std::vector<Checkpoint> kept;
};

// Throws Error{bad_file} if the file is damaged in any part that is read, belongs to another model,
// has other types of caches or more tokens than the context.
StoredStates read_state_file(const std::filesystem::path& path, const Model& model,
                             const SequenceState& layout, int64_t n_context, int64_t budget);

}  // namespace nemo
