#include "models/checkpoints.h"

#include "core/error.h"

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

bool spilled_before(const Checkpoint& a, const Checkpoint& b) {
    return std::tuple(a.in_memory(), a.kind, a.last_use) <
           std::tuple(b.in_memory(), b.kind, b.last_use);
}

}  // namespace

Checkpoints::Checkpoints(const SequenceState& live, const CheckpointLimits& limits)
    : live_(live), budget_(limits.budget) {
    if (!limits.spill_folder.empty())
        spill_.emplace(limits.spill_folder, limits.spill_budget, live);
}

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

std::vector<Checkpoint*> Checkpoints::best_to_save(std::span<const int32_t> tokens, size_t n) {
    std::vector<Checkpoint*> best;
    for (Checkpoint& item : items_)
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
        for (const auto& page : item.state.pages)
            if (page != nullptr) counted.insert(page.get());
    return std::ranges::count_if(items_, &Checkpoint::in_memory) * live_.recurrent_bytes() +
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
        if (spill_orphaned_pages()) continue;
        const std::vector<const Checkpoint*> points = branch_points(live_tokens);
        // By class, then by last use.
        const auto rank = [&](const Checkpoint& item) {
            int value = static_cast<int>(item.kind);
            if (std::ranges::count(points, &item) > 0) value = kBranchPoint;
            if (n_more == 0 && item.last_use == clock_) value = kNewest;
            return std::tuple(!item.in_memory(), value, item.last_use);
        };
        const auto least = std::ranges::min_element(items_, {}, rank);
        if (least == items_.end() || std::get<1>(rank(*least)) > most) return false;
        // What a disk has takes no memory but its pages, and those went there first.
        if (!least->in_memory() && spill_) return false;
        put_away(least);
    }
    return true;
}

void Checkpoints::put_away(Iterator item) {
    try {
        if (spill_) {
            item->read_recurrent = [spilled = spill_->spill_recurrent(item->state.recurrent)](
                                       std::span<float> recurrent) {
                spilled->read(std::as_writable_bytes(recurrent));
            };
            item->state.recurrent.reset();
            item->pages_on_disk.resize(item->state.pages.size());
            return limit_spill();
        }
    } catch (const Error& error) {
        spill_problem_ = error.what();
    }
    items_.erase(item);
}

// Whether there were any: pages that only states on disk still have.
bool Checkpoints::spill_orphaned_pages() {
    if (!spill_) return false;
    std::unordered_set<const KvPage*> used;
    for (const auto& page : live_.pages()) used.insert(page.get());
    for (const Checkpoint& item : items_)
        for (const auto& page : item.state.pages)
            if (item.in_memory()) used.insert(page.get());
    bool found = false;
    for (auto item = items_.begin(); item != items_.end();) {
        const auto next = std::next(item);
        try {
            for (size_t i = 0; i < item->state.pages.size(); ++i) {
                std::shared_ptr<KvPage>& page = item->state.pages[i];
                if (page == nullptr || used.count(page.get()) > 0) continue;
                found = true;
                item->pages_on_disk[i] = spill_->spill_page(page);
                page.reset();
            }
        } catch (const Error& error) {
            spill_problem_ = error.what();
            items_.erase(item);
        }
        item = next;
    }
    limit_spill();
    return found;
}

void Checkpoints::limit_spill() {
    while (spill_->is_full()) {
        const auto least = std::ranges::min_element(items_, spilled_before);
        if (least == items_.end() || least->in_memory()) return;
        items_.erase(least);
    }
}

std::optional<StateSnapshot> Checkpoints::state_from_disk(Checkpoint& checkpoint) {
    try {
        StateSnapshot state = {checkpoint.state.position, live_.new_recurrent(),
                               checkpoint.state.pages};
        checkpoint.read_recurrent(
            {state.recurrent.get(), static_cast<size_t>(live_.n_recurrent())});
        for (size_t i = 0; i < state.pages.size(); ++i)
            if (state.pages[i] == nullptr)
                state.pages[i] = spill_->load_page(checkpoint.pages_on_disk[i]);
        return state;
    } catch (const Error& error) {
        if (error.code() == ErrorCode::out_of_memory) throw;
        spill_problem_ = error.what();
        items_.remove_if([&](const Checkpoint& item) { return &item == &checkpoint; });
        return std::nullopt;
    }
}

std::optional<StateSnapshot> Checkpoints::copy(Checkpoint& checkpoint) {
    return checkpoint.in_memory() ? live_.copy(checkpoint.state) : state_from_disk(checkpoint);
}

bool Checkpoints::load(Checkpoint& checkpoint) {
    if (checkpoint.in_memory()) return true;
    std::optional<StateSnapshot> state = state_from_disk(checkpoint);
    if (!state) return false;
    checkpoint.state = std::move(*state);
    checkpoint.read_recurrent = nullptr;
    checkpoint.pages_on_disk.clear();
    return true;
}

bool Checkpoints::make_room(CheckpointKind kind, std::span<const int32_t> live_tokens) {
    const int64_t n_more = live_.recurrent_bytes();
    // A disk takes anything but what is only kept in case.
    const bool spills = spill_ && kind != CheckpointKind::periodic;
    if (n_more > budget_) return spills;
    const bool any = spills || kind == CheckpointKind::chat;
    return drop_for(n_more, any ? kBranchPoint : static_cast<int>(kind), live_tokens);
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
