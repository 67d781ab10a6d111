// The allocation against an exhaustive search on small random tables, and its promises on large
// ones.
#include "convert/budget.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace nemo {
namespace {

using Items = std::vector<std::vector<Choice>>;

struct Total {
    uint64_t n_bytes = 0;
    double damage = 0;
};

Total total_of(const Items& items, const std::vector<size_t>& chosen) {
    REQUIRE(chosen.size() == items.size());
    Total total;
    for (size_t i = 0; i < items.size(); ++i) {
        total.n_bytes += items[i].at(chosen[i]).n_bytes;
        total.damage += items[i].at(chosen[i]).damage;
    }
    return total;
}

Total smallest(const Items& items) {
    Total total;
    for (const auto& choices : items)
        total.n_bytes += std::ranges::min(choices, {}, &Choice::n_bytes).n_bytes;
    return total;
}

// The least damage of all combinations within the budget; infinite if there is none.
double exhaustive_damage(const Items& items, uint64_t n_bytes) {
    std::vector<size_t> chosen(items.size(), 0);
    double least = std::numeric_limits<double>::infinity();
    for (;;) {
        const Total total = total_of(items, chosen);
        if (total.n_bytes <= n_bytes) least = std::min(least, total.damage);
        size_t i = 0;
        while (i < items.size() && ++chosen[i] == items[i].size()) chosen[i++] = 0;
        if (i == items.size()) return least;
    }
}

// Larger choices are mostly, not always, the less damaging ones.
Items random_items(std::mt19937& random, size_t n_items, size_t n_choices, uint64_t max_bytes) {
    Items items(n_items);
    for (auto& choices : items)
        for (size_t i = 0; i < n_choices; ++i) {
            const uint64_t n_bytes = 1 + random() % max_bytes;
            const double noise = 0.5 + static_cast<double>(random() % 1000) / 1000;
            choices.push_back({n_bytes, noise * 1e4 / static_cast<double>(n_bytes)});
        }
    return items;
}

TEST_CASE("small allocations are the optimum") {
    std::mt19937 random(1);
    for (int trial = 0; trial < 150; ++trial) {
        const Items items = random_items(random, 1 + random() % 5, 1 + random() % 4, 500);
        const uint64_t least = smallest(items).n_bytes;
        for (const uint64_t n_bytes : {least, least + random() % 300, least + random() % 2000}) {
            const Total total = total_of(items, allocate(items, n_bytes));
            CHECK(total.n_bytes <= n_bytes);
            CHECK(total.damage == doctest::Approx(exhaustive_damage(items, n_bytes)));
        }
    }
}

TEST_CASE("a common divisor makes large sizes exact too") {
    std::mt19937 random(2);
    for (int trial = 0; trial < 30; ++trial) {
        Items items = random_items(random, 4, 4, 300);
        for (auto& choices : items)
            for (Choice& choice : choices) choice.n_bytes *= 123'456'789;
        const uint64_t n_bytes = smallest(items).n_bytes + 123'456'789 * uint64_t{random() % 400};
        CHECK(total_of(items, allocate(items, n_bytes)).damage ==
              doctest::Approx(exhaustive_damage(items, n_bytes)));
    }
}

TEST_CASE("with many items the budget is used and never exceeded") {
    std::mt19937 random(3);
    const Items items = random_items(random, 300, 8, 1'000'000'007);
    const uint64_t least = smallest(items).n_bytes;
    double last_damage = std::numeric_limits<double>::infinity();
    for (const uint64_t percent : {110, 150, 300}) {
        const uint64_t n_bytes = least / 100 * percent;
        const Total total = total_of(items, allocate(items, n_bytes));
        CHECK(total.n_bytes <= n_bytes);
        CHECK(static_cast<double>(total.n_bytes) > 0.995 * static_cast<double>(n_bytes));
        CHECK(total.damage < last_damage);
        last_damage = total.damage;
    }
}

TEST_CASE("budgets beyond what is possible") {
    const Items items = {{{10, 5.0}, {20, 1.0}, {30, 1.0}}, {{7, 2.0}}, {{5, 0.0}, {50, 0.0}}};
    CHECK(allocate(items, 0) == std::vector<size_t>{0, 0, 0});
    CHECK(allocate(items, 21) == std::vector<size_t>{0, 0, 0});
    // A larger choice that gains nothing is not taken.
    CHECK(allocate(items, 1000) == std::vector<size_t>{1, 0, 0});
    CHECK(allocate({}, 1000).empty());
}

}  // namespace
}  // namespace nemo
