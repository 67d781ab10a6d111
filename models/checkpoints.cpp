#include "models/checkpoints.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <unordered_set>

namespace nemo {

namespace {

// What ranks above all kinds when one has to go.
constexpr int kBranchPoint = static_cast<int>(CheckpointKind::chat) + 1;
constexpr int kNewest = kBranchPoint + 1;

bool is_prefix(std::span<const int32_t> prefix, std::span<const int32_t> ids) {
    return prefix.size() <= ids.size() && std::ranges::equal(prefix, ids.first(prefix.size()));
}

}  // namespace

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
    return std::ranges::mismatch(a, b).in1 - a.begin();
}

int64_t Checkpoints::n_reusable(std::span<const int32_t> tokens,
                                std::span<const int32_t> ids) const {
    if (live_.n_recurrent() == 0) return std::min(common_prefix(tokens, ids), std::ssize(ids) - 1);
    return tokens.size() < ids.size() && is_prefix(tokens, ids) ? std::ssize(tokens) : 0;
}

Checkpoint* Checkpoints::find(std::span<const int32_t> ids) {
    Checkpoint* best = nullptr;
    int64_t n_best = 0;
    for (Checkpoint& item : items_)
        if (const int64_t n = n_reusable(item.tokens, ids); n > n_best) {
            n_best = n;
            best = &item;
        }
    return best;
}

Checkpoint* Checkpoints::find_exact(std::span<const int32_t> ids) {
    const auto found = std::ranges::find_if(
        items_, [&](const Checkpoint& item) { return std::ranges::equal(item.tokens, ids); });
    return found == items_.end() ? nullptr : &*found;
}

std::vector<const Checkpoint*> Checkpoints::best_to_save(std::span<const int32_t> tokens,
                                                         size_t n) const {
    std::vector<const Checkpoint*> best;
    for (const Checkpoint& item : items_)
        if (item.kind == CheckpointKind::chat) best.push_back(&item);
    std::ranges::sort(best, std::ranges::greater(), [&](const Checkpoint* item) {
        const bool on_the_way = is_prefix(item->tokens, tokens);
        return std::tuple(on_the_way, on_the_way ? item->tokens.size() : 0, item->last_use);
    });
    best.resize(std::min(n, best.size()));
    return best;
}

void Checkpoints::add(Checkpoint checkpoint) {
    items_.push_back(std::move(checkpoint));
    touch(items_.back());
}

int64_t Checkpoints::n_bytes() const {
    std::unordered_set<const KvPage*> counted;
    for (const auto& page : live_.pages()) counted.insert(page.get());
    const size_t n_live = counted.size();
    for (const Checkpoint& item : items_)
        for (const auto& page : item.state.pages) counted.insert(page.get());
    return std::ssize(items_) * live_.n_recurrent() * static_cast<int64_t>(sizeof(float)) +
           static_cast<int64_t>(counted.size() - n_live) * live_.page_layout().page_bytes();
}

// In the order of their texts, every place where two texts part is between two neighbours.
std::vector<const Checkpoint*> Checkpoints::branch_points(
    std::span<const int32_t> live_tokens) const {
    std::vector<std::span<const int32_t>> texts = {live_tokens};
    for (const Checkpoint& item : items_) texts.emplace_back(item.tokens);
    std::ranges::sort(texts, [](const auto& a, const auto& b) {
        return std::ranges::lexicographical_compare(a, b);
    });
    std::vector<const Checkpoint*> points;
    for (size_t i = 1; i < texts.size(); ++i) {
        const int64_t n_common = common_prefix(texts[i - 1], texts[i]);
        if (n_common == std::ssize(texts[i - 1])) continue;
        const auto common = texts[i].first(static_cast<size_t>(n_common));
        const Checkpoint* last = nullptr;
        for (const Checkpoint& item : items_)
            if (is_prefix(item.tokens, common) &&
                (last == nullptr || item.tokens.size() > last->tokens.size()))
                last = &item;
        if (last != nullptr) points.push_back(last);
    }
    return points;
}

// Nothing that ranks above `most` is dropped.
bool Checkpoints::drop_for(int64_t n_more, int most, std::span<const int32_t> live_tokens) {
    while (n_bytes() + n_more > budget_) {
        const std::vector<const Checkpoint*> points = branch_points(live_tokens);
        // By class, then by last use.
        const auto rank = [&](const Checkpoint& item) {
            int value = static_cast<int>(item.kind);
            if (std::ranges::count(points, &item) > 0) value = kBranchPoint;
            if (n_more == 0 && item.last_use == clock_) value = kNewest;
            return std::pair(value, item.last_use);
        };
        const auto least = std::ranges::min_element(items_, {}, rank);
        if (least == items_.end() || rank(*least).first > most) return false;
        items_.erase(least);
    }
    return true;
}

bool Checkpoints::make_room(CheckpointKind kind, std::span<const int32_t> live_tokens) {
    const int64_t n_more = live_.n_recurrent() * static_cast<int64_t>(sizeof(float));
    const int most = kind == CheckpointKind::chat ? kBranchPoint : static_cast<int>(kind);
    return n_more <= budget_ && drop_for(n_more, most, live_tokens);
}

void Checkpoints::enforce_budget(std::span<const int32_t> live_tokens) {
    drop_for(0, kNewest, live_tokens);
}

void Checkpoints::thin_out(std::span<const int32_t> tokens, int64_t interval) {
    constexpr int64_t kAllKept = 4;  // the newest ones
    const int64_t newest = std::ssize(tokens) / interval;
    std::erase_if(items_, [&](const Checkpoint& item) {
        if (item.kind != CheckpointKind::periodic || !is_prefix(item.tokens, tokens)) return false;
        const int64_t index = std::ssize(item.tokens) / interval, age = newest - index;
        // Every 2nd up to twice as old, every 4th up to four times, and so on.
        const auto step =
            static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(age) * 2)) / kAllKept;
        return age >= kAllKept && index % step != 0;
    });
}

}  // namespace nemo
