// What a state file says about itself, in front of its blocks.
//
// The file: "NEMOSTAT", u32 version, u64 length of the directory, the directory, u32 CRC-32C of all
// that, then the blocks without gaps: pages, recurrent states in the order of the directory,
// logits. Little-endian. The file is hostile input: the directory is read with bounds, then
// compared with what the model and the session make of every size; blocks have checksums of their
// own.
#pragma once

#include "core/model_file.h"
#include "models/checkpoints.h"
#include "models/state_blocks.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace nemo {

struct StateDirectory {
    struct Page {
        int64_t n_rows = 0;
        BlockEntry block;
    };
    struct State {
        bool is_live = false;  // only the first may be
        CheckpointKind kind = CheckpointKind::chat;
        std::vector<int32_t> tokens;
        std::vector<uint32_t> pages;        // that hold them, into `pages`
        std::vector<BlockEntry> recurrent;  // n_recurrent_blocks of them
    };

    ModelFingerprint model;
    KvTypes kv_types;
    int64_t n_recurrent = 0;  // floats
    int64_t token_bytes = 0;  // of keys and values
    int64_t n_vocab = 0;
    StateCoding coding = StateCoding::exact;
    std::vector<Page> pages;
    std::vector<State> states;
    std::vector<BlockEntry> logits;  // of the live state: one block or none
    uint64_t n_front_bytes = 0;      // in front of the blocks, when read

    // Everything in front of the blocks; as many bytes for any contents of the blocks.
    std::vector<std::byte> encoded() const;
    // visit(block), in the order of the file.
    template <class Visit>
    void for_blocks(const Visit& visit) const {
        for (const Page& page : pages) visit(page.block);
        for (const State& state : states)
            for (const BlockEntry& block : state.recurrent) visit(block);
        for (const BlockEntry& block : logits) visit(block);
    }
};

// What this program and session have.
struct StateExpectation {
    ModelFingerprint model;
    const SequenceState& live;
    int64_t n_vocab;
    int64_t n_context;
};

// Reads what encoded() wrote from the start of a file, whose blocks end where it does. Throws
// Error{bad_file} naming the source, the field and the numbers that disagree.
StateDirectory read_state_directory(std::span<const std::byte> file, const std::string& source,
                                    const StateExpectation& expected);

}  // namespace nemo
