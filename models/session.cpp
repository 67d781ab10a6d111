#include "models/session.h"

#include "core/error.h"
#include "core/memory_info.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <ranges>

namespace nemo {

namespace {

// For files that do not say how long a text the model was trained on.
constexpr int64_t kDefaultContext = 131072;

int64_t state_budget(int64_t wanted) {
    return wanted > 0 ? wanted : available_memory() / 4;
}

}  // namespace

// However a call ends, and whatever it brought into memory, the budget holds after it.
class Session::BudgetGuard {
public:
    explicit BudgetGuard(Session& session) : session_(session) {}
    ~BudgetGuard() {
        try {
            session_.checkpoints_.enforce_budget(session_.tokens_);
            session_.state_.buffers().limit(session_.n_spare_allowed());
        } catch (const std::exception&) {
            // Memory does not even suffice to put something away. The next call tries again.
        }
    }
    BudgetGuard(const BudgetGuard&) = delete;
    BudgetGuard& operator=(const BudgetGuard&) = delete;

private:
    Session& session_;
};

Session::Session(const Model& model, const SessionOptions& options)
    : model_(model),
      n_context_(options.n_context > 0 ? options.n_context : model.config().n_context),
      chunk_(options.chunk),
      interval_(options.checkpoint_interval),
      work_(model.backend()),
      state_(model.config(), model.backend(), options.kv_types),
      checkpoints_(state_, {.budget = state_budget(options.state_budget),
                            .spill_folder = options.spill_folder,
                            .spill_budget = options.spill_budget}) {
    NEMO_ASSERT(chunk_ > 0 && interval_ >= 0);
    if (n_context_ <= 0) n_context_ = kDefaultContext;
}

void Session::reset() noexcept {
    checkpoints_.clear();
    forget_tokens();
}

void Session::forget_tokens() noexcept {
    looked_at_.clear();
    state_.reset();
    tokens_.clear();
    has_logits_ = false;
    live_in_file_ = nullptr;
    // Pages that were shared with the live state count from now on.
    const BudgetGuard guard(*this);
}

// States not in use count as if they were, but for the one that the live state changes places with.
size_t Session::n_spare_allowed() const {
    const int64_t n_bytes = state_.recurrent_bytes();
    const int64_t n_free = checkpoints_.budget() - checkpoints_.n_bytes();
    return n_bytes == 0 ? 0 : 1 + static_cast<size_t>(std::max<int64_t>(0, n_free) / n_bytes);
}

int64_t Session::n_kept_bytes() const {
    return checkpoints_.n_bytes() +
           static_cast<int64_t>(state_.buffers().n_spare()) * state_.recurrent_bytes();
}

void Session::prepare() {
    const BudgetGuard guard(*this);
    try {
        for (Checkpoint* item : checkpoints_.best_to_save(tokens_, SaveOptions().n_checkpoints))
            if (!item->in_memory() && checkpoints_.has_room()) checkpoints_.load(*item);
        state_.buffers().prepare(n_spare_allowed());
    } catch (const std::exception&) {
        // Whoever needs it will say so.
    }
}

void Session::check_tokens(std::span<const int32_t> tokens, int64_t n_before) const {
    const int64_t n_vocab = model_.config().n_vocab;
    for (const int32_t token : tokens)
        if (token < 0 || token >= n_vocab)
            fail(ErrorCode::usage, "token id {} is outside the vocabulary of {} tokens", token,
                 n_vocab);
    const int64_t n_total = n_before + std::ssize(tokens);
    if (n_total > n_context_)
        fail(ErrorCode::context_full, "{} tokens do not fit into the context of {}", n_total,
             n_context_);
}

void Session::bring_live_state() {
    if (live_in_file_ == nullptr || state_.has_recurrent()) return;
    try {
        FloatBuffer recurrent = state_.new_recurrent();
        live_in_file_({recurrent.get(), static_cast<size_t>(state_.n_recurrent())});
        state_.set_recurrent(std::move(recurrent));
    } catch (...) {
        forget_tokens();
        throw;
    }
}

// What a file has takes no memory.
Checkpoint Session::leave_live_state() {
    Checkpoint left = {tokens_, CheckpointKind::left, state_.take()};
    if (live_in_file_ == nullptr) return left;
    left.state.recurrent = {};
    left.pages_on_disk.resize(left.state.pages.size());
    left.read_recurrent = std::exchange(live_in_file_, nullptr);
    return left;
}

void Session::read(std::span<const int32_t> chunk, int64_t n_logits,
                   std::span<const StateCapture> captures) {
    bring_live_state();
    logits_.resize(static_cast<size_t>(n_logits * model_.config().n_vocab));
    tokens_.reserve(tokens_.size() + chunk.size());
    has_logits_ = false;
    looked_at_.clear();
    live_in_file_ = nullptr;
    try {
        model_.forward(chunk, state_, work_, n_logits, logits_.data(), captures);
    } catch (...) {
        // Some layers have taken the chunk in and some have not.
        forget_tokens();
        throw;
    }
    tokens_.insert(tokens_.end(), chunk.begin(), chunk.end());
    has_logits_ = n_logits == 1;
}

std::span<const float> Session::append(std::span<const int32_t> tokens,
                                       const Cancelled& cancelled) {
    check_tokens(tokens, state_.position());
    for (size_t start = 0; start < tokens.size(); start += static_cast<size_t>(chunk_)) {
        if (cancelled && cancelled()) return {};
        const auto chunk =
            tokens.subspan(start, std::min(static_cast<size_t>(chunk_), tokens.size() - start));
        const bool last = start + chunk.size() == tokens.size();
        read(chunk, last ? 1 : 0);
    }
    return logits_;
}

std::span<const float> Session::look_at(std::span<const int32_t> tokens) {
    NEMO_ASSERT(!tokens.empty() && std::ssize(tokens) <= kMostLookedAt);
    check_tokens(tokens, state_.position());
    if (draft_inputs_ == nullptr)
        draft_inputs_ =
            std::make_unique<DraftInputs>(model_.config(), model_.backend(), kMostLookedAt);
    bring_live_state();
    looked_at_.clear();
    has_logits_ = false;
    logits_.resize(tokens.size() * static_cast<size_t>(model_.config().n_vocab));
    model_.look_at(tokens, state_, work_, logits_.data(), *draft_inputs_);
    looked_at_.assign(tokens.begin(), tokens.end());
    return logits_;
}

void Session::take_in(int64_t n_tokens) {
    NEMO_ASSERT(n_tokens >= 0 && n_tokens <= std::ssize(looked_at_));
    if (n_tokens == 0) return;
    const auto taken = looked_at_.begin() + n_tokens;
    tokens_.reserve(tokens_.size() + static_cast<size_t>(n_tokens));
    live_in_file_ = nullptr;
    try {
        model_.take_in(*draft_inputs_, n_tokens, state_, work_);
    } catch (...) {
        forget_tokens();
        throw;
    }
    tokens_.insert(tokens_.end(), looked_at_.begin(), taken);
    const int64_t n_vocab = model_.config().n_vocab;
    logits_.erase(logits_.begin(), logits_.begin() + (n_tokens - 1) * n_vocab);
    logits_.resize(static_cast<size_t>(n_vocab));
    has_logits_ = true;
    looked_at_.clear();
}

void Session::append_with_logits(std::span<const int32_t> tokens, const LogitsSink& sink) {
    check_tokens(tokens, state_.position());
    for (size_t start = 0; start < tokens.size(); start += static_cast<size_t>(chunk_)) {
        const auto chunk =
            tokens.subspan(start, std::min(static_cast<size_t>(chunk_), tokens.size() - start));
        read(chunk, std::ssize(chunk));
        sink(logits_);
    }
}

// ---- sync ----

int64_t Session::n_reusable_live(std::span<const int32_t> ids) const {
    if (has_logits_ && std::ranges::equal(tokens_, ids)) return std::ssize(ids);
    return checkpoints_.n_reusable(tokens_, ids);
}

int64_t Session::n_reusable(std::span<const int32_t> ids) const {
    int64_t n = n_reusable_live(ids);
    for (const Checkpoint& item : checkpoints_.items())
        n = std::max(n, checkpoints_.n_reusable(item.tokens, ids));
    return n;
}

// Leaves the state at the longest prefix of ids that is at hand. What it was may be wanted again:
// another answer, another version of a message.
void Session::go_back_to_prefix(std::span<const int32_t> ids) {
    looked_at_.clear();
    const int64_t n_live = n_reusable_live(ids);
    int64_t n_kept = 0;
    std::optional<StateSnapshot> kept;
    do {
        Checkpoint* best = checkpoints_.find(ids);
        n_kept = best == nullptr ? 0 : checkpoints_.n_reusable(best->tokens, ids);
        if (n_kept <= n_live) break;
        if (live_in_file_ != nullptr) state_.drop_recurrent();  // memory for the other one
        kept = checkpoints_.copy(*best);
    } while (!kept);
    if (!kept && n_live == std::ssize(tokens_)) return bring_live_state();

    Checkpoint left = leave_live_state();
    const int64_t n = std::max(n_live, n_kept);
    has_logits_ = false;
    try {
        if (n > 0) {
            state_.become(kept ? std::move(*kept) : state_.copy(left.state));
            if (n < state_.position()) state_.cut(n);
            state_.reserve(n);
        }
        tokens_.assign(ids.begin(), ids.begin() + n);
    } catch (...) {
        forget_tokens();
        throw;
    }

    if (checkpoints_.find_exact(left.tokens) == nullptr && !left.tokens.empty() &&
        (!left.in_memory() || checkpoints_.make_room(CheckpointKind::left, tokens_)))
        checkpoints_.add(std::move(left));
    if (Checkpoint* used = checkpoints_.find_exact(tokens_)) checkpoints_.touch(*used);
    checkpoints_.enforce_budget(tokens_);
}

std::vector<Checkpoint> Session::begin_checkpoints(std::span<const int32_t> ids, int64_t begin,
                                                   int64_t end,
                                                   std::span<const int64_t> positions) {
    std::vector<Checkpoint> begun;
    const auto begin_at = [&](int64_t position, CheckpointKind kind) {
        const auto tokens = ids.first(static_cast<size_t>(position));
        if (Checkpoint* same = checkpoints_.find_exact(tokens)) {
            same->kind = std::max(same->kind, kind);
            checkpoints_.touch(*same);
        } else if (checkpoints_.make_room(kind, tokens_)) {
            begun.push_back({{tokens.begin(), tokens.end()},
                             kind,
                             {.position = position, .recurrent = state_.new_recurrent()}});
        }
    };
    for (int64_t position = begin + 1; position <= end; ++position) {
        if (std::ranges::binary_search(positions, position))
            begin_at(position, CheckpointKind::chat);
        else if (interval_ > 0 && position % interval_ == 0 && state_.n_recurrent() > 0)
            begin_at(position, CheckpointKind::periodic);
    }
    return begun;
}

void Session::keep(std::vector<Checkpoint> begun) {
    if (begun.empty()) return;
    for (Checkpoint& checkpoint : begun) {
        checkpoint.state.pages = state_.pages_at(checkpoint.state.position).pages;
        checkpoints_.add(std::move(checkpoint));
    }
    if (interval_ > 0) checkpoints_.thin_out(tokens_, interval_);
    checkpoints_.enforce_budget(tokens_);
}

SyncResult Session::sync(std::span<const int32_t> ids, std::span<const int64_t> checkpoints,
                         const Cancelled& cancelled) {
    if (ids.empty()) fail(ErrorCode::usage, "there are no tokens to read");
    check_tokens(ids, 0);
    NEMO_ASSERT(std::ranges::is_sorted(checkpoints) &&
                (checkpoints.empty() || checkpoints.back() <= std::ssize(ids)));
    const BudgetGuard guard(*this);
    go_back_to_prefix(ids);

    SyncResult result = {.n_reused = std::ssize(tokens_)};
    if (result.n_reused > 0 && std::ranges::binary_search(checkpoints, result.n_reused) &&
        checkpoints_.find_exact(tokens_) == nullptr &&
        checkpoints_.make_room(CheckpointKind::chat, tokens_))
        checkpoints_.add({tokens_, CheckpointKind::chat, state_.snapshot()});

    const int64_t n_ids = std::ssize(ids);
    for (int64_t begin = result.n_reused, end = 0; begin < n_ids; begin = end) {
        result.cancelled = cancelled && cancelled();
        if (result.cancelled) return result;
        end = std::min(begin + chunk_, n_ids);
        std::vector<Checkpoint> begun = begin_checkpoints(ids, begin, end, checkpoints);
        std::vector<StateCapture> captures;
        for (const Checkpoint& checkpoint : begun)
            captures.push_back(
                {checkpoint.state.position - begin, checkpoint.state.recurrent.get()});
        read(ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
             end == n_ids ? 1 : 0, captures);
        keep(std::move(begun));
        result.n_read += end - begin;
    }
    result.logits = logits_;
    return result;
}

// ---- Files ----

std::optional<AtomicFile> Session::write_states(const std::filesystem::path& path,
                                                std::span<const Checkpoint* const> kept,
                                                const StateFileOptions& options) const {
    const auto view = [&](std::span<const int32_t> tokens, const float* recurrent,
                          const KvPages& pages, std::optional<CheckpointKind> kind) {
        return StateView{
            tokens, {recurrent, static_cast<size_t>(state_.n_recurrent())}, pages, kind};
    };
    std::vector<StateView> states;
    if (!tokens_.empty())
        states.push_back(view(tokens_, state_.recurrent(), state_.pages(), std::nullopt));
    for (const Checkpoint* item : kept)
        states.push_back(
            view(item->tokens, item->state.recurrent.get(), item->state.pages, item->kind));
    const bool logits_fit = has_logits_ && options.coding == StateCoding::exact;
    return write_state_file(path, model_, state_, states,
                            logits_fit ? std::span<const float>(logits_) : std::span<const float>(),
                            options);
}

void Session::save(const std::filesystem::path& path, const SaveOptions& options) {
    const BudgetGuard guard(*this);
    bring_live_state();
    std::vector<const Checkpoint*> kept;
    for (Checkpoint* item : checkpoints_.best_to_save(tokens_, options.n_checkpoints))
        if (checkpoints_.load(*item)) kept.push_back(item);
    write_states(path, kept, {.coding = options.coding})->commit();
}

std::optional<AtomicFile> Session::write_states(const std::filesystem::path& path,
                                                const SaveOptions& options,
                                                const Cancelled& cancelled) {
    std::vector<const Checkpoint*> kept;
    for (const Checkpoint* item : checkpoints_.best_to_save(tokens_, options.n_checkpoints))
        if (item->in_memory()) kept.push_back(item);
    return write_states(path, kept,
                        {.coding = options.coding, .n_threads = 1, .cancelled = cancelled});
}

void Session::restore(const std::filesystem::path& path) {
    const BudgetGuard guard(*this);
    StoredStates stored = read_state_file(path, model_, state_, n_context_, checkpoints_.budget());
    reset();
    if (stored.live) {
        live_in_file_ = std::move(stored.live->read_recurrent);
        tokens_ = std::move(stored.live->tokens);
        state_.become(std::move(stored.live->state));
        state_.reserve(state_.position());
        logits_ = std::move(stored.logits);
        has_logits_ = !logits_.empty();
    }
    // The newest come first in the file.
    for (Checkpoint& checkpoint : std::views::reverse(stored.kept))
        checkpoints_.add(std::move(checkpoint));
}

}  // namespace nemo
