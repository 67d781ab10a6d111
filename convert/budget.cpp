#include "convert/budget.h"

#include "core/error.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace nemo {

namespace {

constexpr uint64_t kMaxUnits = 16384;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A choice worth having: every larger one has less damage.
struct Step {
    size_t choice;
    uint64_t extra;  // bytes above the item's smallest
    double damage;
};

struct Item {
    uint64_t least_bytes;
    std::vector<Step> steps;  // by size; the first has extra 0
};

Item item_of(const std::vector<Choice>& choices) {
    NEMO_ASSERT(!choices.empty());
    std::vector<size_t> order(choices.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(
        order, {}, [&](size_t i) { return std::pair(choices[i].n_bytes, choices[i].damage); });
    Item item = {choices[order[0]].n_bytes, {}};
    for (const size_t i : order) {
        const Choice& choice = choices[i];
        if (item.steps.empty() || choice.damage < item.steps.back().damage)
            item.steps.push_back({i, choice.n_bytes - item.least_bytes, choice.damage});
    }
    return item;
}

// Bytes per unit.
uint64_t unit_of(const std::vector<Item>& items, uint64_t spare) {
    uint64_t divisor = 0;
    for (const Item& item : items)
        for (const Step& step : item.steps) divisor = std::gcd(divisor, step.extra);
    divisor = std::max<uint64_t>(divisor, 1);
    return spare / divisor <= kMaxUnits ? divisor : spare / kMaxUnits + 1;
}

// The step of each item with the least total damage, of those that take at most `spare` bytes in
// units rounded up.
std::vector<size_t> best_steps(const std::vector<Item>& items, uint64_t spare) {
    const uint64_t unit = unit_of(items, spare);
    const size_t n_units = static_cast<size_t>(spare / unit);
    std::vector<double> least(n_units + 1, 0.0);  // [units]: damage of the items so far
    std::vector<double> next(n_units + 1);
    std::vector<std::vector<uint8_t>> taken;  // [item][units]
    for (const Item& item : items) {
        std::vector<uint8_t>& step_at = taken.emplace_back(n_units + 1);
        std::ranges::fill(next, kInfinity);
        for (size_t s = 0; s < item.steps.size(); ++s) {
            const uint64_t cost = item.steps[s].extra / unit + (item.steps[s].extra % unit != 0);
            for (size_t u = static_cast<size_t>(cost); u <= n_units; ++u) {
                const double damage = least[u - static_cast<size_t>(cost)] + item.steps[s].damage;
                if (damage >= next[u]) continue;
                next[u] = damage;
                step_at[u] = static_cast<uint8_t>(s);
            }
        }
        std::swap(least, next);
    }
    std::vector<size_t> steps(items.size());
    size_t u = n_units;
    for (size_t i = items.size(); i-- > 0;) {
        steps[i] = taken[i][u];
        const uint64_t extra = items[i].steps[steps[i]].extra;
        u -= static_cast<size_t>(extra / unit + (extra % unit != 0));
    }
    return steps;
}

// Takes the step that lowers the damage most, of those the remaining bytes allow, until none does.
void fill(const std::vector<Item>& items, uint64_t spare, std::vector<size_t>& steps) {
    for (size_t i = 0; i < items.size(); ++i) spare -= items[i].steps[steps[i]].extra;
    for (;;) {
        size_t best_item = items.size();
        size_t best_step = 0;
        double best_gain = 0;
        for (size_t i = 0; i < items.size(); ++i) {
            const Step& now = items[i].steps[steps[i]];
            for (size_t s = steps[i] + 1; s < items[i].steps.size(); ++s) {
                const Step& later = items[i].steps[s];
                const double gain = now.damage - later.damage;
                if (later.extra - now.extra > spare || gain <= best_gain) continue;
                best_item = i;
                best_step = s;
                best_gain = gain;
            }
        }
        if (best_item == items.size()) return;
        const std::vector<Step>& of_item = items[best_item].steps;
        spare -= of_item[best_step].extra - of_item[steps[best_item]].extra;
        steps[best_item] = best_step;
    }
}

}  // namespace

std::vector<size_t> allocate(std::span<const std::vector<Choice>> choices, uint64_t n_bytes) {
    std::vector<Item> items;
    uint64_t least_bytes = 0;
    for (const std::vector<Choice>& of_item : choices) {
        NEMO_ASSERT(of_item.size() <= std::numeric_limits<uint8_t>::max());
        items.push_back(item_of(of_item));
        least_bytes += items.back().least_bytes;
    }
    std::vector<size_t> steps(items.size(), 0);
    uint64_t most_extra = 0;
    for (const Item& item : items) most_extra += item.steps.back().extra;
    if (n_bytes > least_bytes) {
        // More than everything at its best would only make the units coarser.
        const uint64_t spare = std::min(n_bytes - least_bytes, most_extra);
        steps = best_steps(items, spare);
        fill(items, spare, steps);
    }
    std::vector<size_t> result;
    for (size_t i = 0; i < items.size(); ++i) result.push_back(items[i].steps[steps[i]].choice);
    return result;
}

}  // namespace nemo
