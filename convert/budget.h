// Spends a number of bytes: one choice per item, such that the total damage is least and the total
// size stays within the budget.
//
// A multiple-choice knapsack, solved by dynamic programming over the bytes above the smallest
// possible size. Sizes are counted in units of their common divisor, or, where that makes too many,
// in 1/16384 of the span, rounded up: the result never exceeds the budget, and is the exact optimum
// in the first case. What rounding left over is then spent on the single steps that help most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

struct Choice {
    uint64_t n_bytes = 0;
    double damage = 0;
};

// For each item the index of its choice; items have at least one. If even the smallest choices
// exceed the budget, those are returned. Equal damage: the smaller choice.
std::vector<size_t> allocate(std::span<const std::vector<Choice>> items, uint64_t n_bytes);

}  // namespace nemo
