#include "core/tokenizer/bpe_merges.h"

#include "core/error.h"

#include <algorithm>
#include <bit>

namespace nemo {
namespace {

constexpr size_t kMaxMerges = size_t{1} << 30;

// For the standard heap functions, which keep the greatest element first.
bool comes_later(const BpeWorkspace::Candidate& a, const BpeWorkspace::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

BpeMerges::BpeMerges(size_t n_merges) {
    NEMO_ASSERT(n_merges <= kMaxMerges);
    slots_.resize(std::bit_ceil(2 * n_merges + 2));
}

size_t BpeMerges::first_slot(int32_t left, int32_t right) const {
    const uint64_t key =
        (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
    const uint64_t hash = key * 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(hash ^ (hash >> 32)) & (slots_.size() - 1);
}

void BpeMerges::fetch_slot(int32_t left, int32_t right) const {
    __builtin_prefetch(&slots_[first_slot(left, right)]);
}

size_t BpeMerges::slot_of(int32_t left, int32_t right) const {
    const size_t mask = slots_.size() - 1;
    size_t index = first_slot(left, right);
    while (slots_[index].left >= 0 &&
           (slots_[index].left != left || slots_[index].right != right)) {
        index = (index + 1) & mask;
    }
    return index;
}

void BpeMerges::insert(int32_t left, int32_t right, uint32_t rank, int32_t result) {
    slots_[slot_of(left, right)] = {left, right, rank, result};
}

void BpeMerges::push_candidate(const std::vector<int32_t>& symbols, int32_t position,
                               BpeWorkspace& workspace) const {
    const int32_t after = workspace.next[static_cast<size_t>(position)];
    if (after < 0) return;
    const int32_t left = symbols[static_cast<size_t>(position)];
    const int32_t right = symbols[static_cast<size_t>(after)];
    const Slot& slot = slots_[slot_of(left, right)];
    if (slot.left < 0) return;
    workspace.heap.push_back({slot.rank, position, left, right});
}

void BpeMerges::apply(std::vector<int32_t>& symbols, BpeWorkspace& workspace) const {
    const auto n = static_cast<int32_t>(symbols.size());
    if (n < 2) return;
    auto& [heap, next, previous] = workspace;
    heap.clear();
    next.resize(symbols.size());
    previous.resize(symbols.size());
    for (int32_t i = 0; i < n; ++i) {
        next[static_cast<size_t>(i)] = i + 1 < n ? i + 1 : -1;
        previous[static_cast<size_t>(i)] = i - 1;
    }
    for (int32_t i = 0; i + 1 < n; ++i) push_candidate(symbols, i, workspace);
    std::make_heap(heap.begin(), heap.end(), comes_later);

    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), comes_later);
        const BpeWorkspace::Candidate best = heap.back();
        heap.pop_back();
        const auto left = static_cast<size_t>(best.position);
        if (symbols[left] != best.left || next[left] < 0) continue;
        const auto right = static_cast<size_t>(next[left]);
        if (symbols[right] != best.right) continue;

        symbols[left] = slots_[slot_of(best.left, best.right)].result;
        symbols[right] = -1;
        next[left] = next[right];
        if (next[left] >= 0) previous[static_cast<size_t>(next[left])] = best.position;
        const auto push = [&](int32_t position) {
            const size_t n_before = heap.size();
            push_candidate(symbols, position, workspace);
            if (heap.size() > n_before) std::push_heap(heap.begin(), heap.end(), comes_later);
        };
        push(best.position);
        if (previous[left] >= 0) push(previous[left]);
    }
    std::erase(symbols, -1);
}

}  // namespace nemo
