// The merge rules of a BPE vocabulary and the procedure that applies them to one pre-token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nemo {

// Scratch memory of BpeMerges::apply, kept between calls to save allocations.
struct BpeWorkspace {
    struct Candidate {
        uint32_t rank;
        int32_t position;  // of the left symbol
        int32_t left;      // the symbols when the candidate was found: it is stale if they changed
        int32_t right;
    };
    std::vector<Candidate> heap;
    std::vector<int32_t> next;  // doubly linked list of the symbols that are left, -1: none
    std::vector<int32_t> previous;
};

class BpeMerges {
public:
    // Room for n_merges calls of insert(); at most 2^30.
    explicit BpeMerges(size_t n_merges);

    // A pair that is already known is replaced, as in Hugging Face's hash map.
    void insert(int32_t left, int32_t right, uint32_t rank, int32_t result);

    // Fetches what insert() of this pair looks at first.
    void fetch_slot(int32_t left, int32_t right) const;

    // Repeatedly joins the adjacent pair of lowest rank, the leftmost of equals, until none is
    // left. O(n log n) for n symbols; at most 2^31 - 1 of them.
    void apply(std::vector<int32_t>& symbols, BpeWorkspace& workspace) const;

private:
    struct Slot {
        int32_t left = -1;  // -1: empty
        int32_t right = -1;
        uint32_t rank = 0;
        int32_t result = -1;
    };
    size_t first_slot(int32_t left, int32_t right) const;
    // The pair's slot, or the empty one where it belongs.
    size_t slot_of(int32_t left, int32_t right) const;
    void push_candidate(const std::vector<int32_t>& symbols, int32_t position,
                        BpeWorkspace& workspace) const;

    std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
};

}  // namespace nemo
