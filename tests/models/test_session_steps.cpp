// Random lives of sessions: whatever is extended, edited, branched, evicted, spilled, cancelled,
// guessed, saved and restored in whatever order, and wherever it fails, the logits are those of a
// session without a past, to the bit, and no more is read than must be.
//
// NEMO_TEST_STEPS=10000 build/tests/test_models -tc="random lives*" for a long run.
#include "core/error.h"
#include "models/speculation.h"
#include "tests/models/failing_backend.h"
#include "tests/models/sync_helpers.h"

#include <algorithm>
#include <cstdlib>

using namespace nemo;

namespace {

constexpr int64_t kMostTokens = 700;

struct Counts {
    int64_t n_steps = 0, n_reused = 0, n_read = 0, n_spilled = 0, n_cancelled = 0, n_restored = 0,
            n_failed = 0;
};

// One model, one way to spend memory.
class Life {
public:
    Life(const Model& model, FailingBackend& backend, const SessionOptions& options, uint32_t seed,
         Counts& counts)
        : model_(model),
          backend_(backend),
          options_(options),
          fresh_(model, {.n_context = 2 * kMostTokens}),
          random_(seed),
          counts_(counts) {
        options_.n_context = kMostTokens;
        options_.spill_folder = options.spill_folder.empty() ? "" : folder_ / "spill";
        begin_session();
        texts_.push_back(random_text(1 + below(500)));
    }

    void step() {
        ++counts_.n_steps;
        if (below(3) == 0) prepare();
        switch (below(14)) {
            case 0:
            case 1:
            case 2:
                return check_sync(extended(pick_text()));
            case 3:
                return check_sync(edited(pick_text()));
            case 4:
                return check_sync(pick_text());
            case 5:
                return generate();
            case 6:
                return cancel();
            case 7:
                return save_and_load();
            case 8:
                return go_back_in_time();
            case 9:
                return refuse();
            case 10:
                return check_sync(random_text(1 + below(300)));
            case 11:
            case 12:
                return fail_somewhere();
            default:
                // What a template does to history: a piece in the middle disappears.
                return check_sync(without_middle(pick_text()));
        }
    }

private:
    using Text = std::vector<int32_t>;

    int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

    Text random_text(int64_t n) {
        return random_ids(static_cast<size_t>(n), static_cast<uint32_t>(random_()));
    }

    Text pick_text() { return texts_[static_cast<size_t>(below(std::ssize(texts_)))]; }

    Text extended(const Text& text) {
        const int64_t n = std::min(1 + below(60), kMostTokens - std::ssize(text));
        return joined(text, random_text(n));
    }

    Text edited(const Text& text) { return extended(first_of(text, below(std::ssize(text)))); }

    Text without_middle(const Text& text) {
        const int64_t a = below(std::ssize(text)), b = a + below(std::ssize(text) - a);
        return extended(joined(first_of(text, a), {text.begin() + b, text.end()}));
    }

    std::vector<int64_t> some_positions(const Text& text) {
        std::vector<int64_t> positions;
        for (int64_t i = below(4); i > 0; --i) positions.push_back(1 + below(std::ssize(text)));
        std::ranges::sort(positions);
        return positions;
    }

    void begin_session() {
        options_.chunk = std::vector<int64_t>{1, 7, 32, 256}[static_cast<size_t>(below(4))];
        session_ = std::make_unique<Session>(model_, options_);
        kept_.clear();
    }

    void remember(const Text& text) {
        if (texts_.size() < 12)
            texts_.push_back(text);
        else
            texts_[static_cast<size_t>(below(12))] = text;
    }

    void check_logits(std::span<const float> logits, const Text& text) {
        REQUIRE(std::ranges::equal(logits, fresh_.logits(text)));
    }

    void check_memory() {
        REQUIRE(session_->state().position() == std::ssize(session_->tokens()));
        const Checkpoints& checkpoints = session_->checkpoints();
        REQUIRE(checkpoints.n_bytes() <= checkpoints.budget());
        REQUIRE(session_->n_kept_bytes() <=
                checkpoints.budget() + recurrent_state_bytes(model_.config()));
        REQUIRE(checkpoints.spill_problem().empty());
        counts_.n_spilled += checkpoints.n_spilled_bytes() > 0;
    }

    void check_sync(const Text& text) {
        const std::vector<int64_t> positions = some_positions(text);
        const int64_t n_reusable = session_->n_reusable(text);
        // Nothing that was ever asked for is lost while there is room.
        if (is_roomy())
            for (const Text& kept : kept_)
                if (kept.size() < text.size() && std::equal(kept.begin(), kept.end(), text.begin()))
                    REQUIRE(n_reusable >= std::ssize(kept));
        const SyncResult result = session_->sync(text, positions);
        REQUIRE(result.n_reused == n_reusable);
        REQUIRE(result.n_read == std::ssize(text) - n_reusable);
        REQUIRE(session_->tokens() == text);
        check_logits(result.logits, text);
        for (const int64_t position : positions)
            if (position >= result.n_reused) kept_.push_back(first_of(text, position));
        remember(text);
        check_memory();
        counts_.n_reused += result.n_reused;
        counts_.n_read += result.n_read;
    }

    bool is_roomy() const { return options_.state_budget == 0 || !options_.spill_folder.empty(); }

    void generate() {
        if (session_->tokens().empty()) return;
        for (int64_t i = below(8); i >= 0; --i) {
            if (std::ssize(session_->tokens()) >= kMostTokens) return;
            const auto logits = session_->append(random_text(1));
            if (i == 0) check_logits(logits, session_->tokens());
        }
        remember(session_->tokens());
        check_memory();
    }

    void cancel() {
        const Text text = below(2) == 0 ? extended(pick_text()) : random_text(1 + below(200));
        int64_t n_left = below(4);
        const SyncResult result =
            session_->sync(text, some_positions(text), [&] { return n_left-- == 0; });
        counts_.n_cancelled += result.cancelled;
        REQUIRE(result.logits.empty() == result.cancelled);
        const Text& read = session_->tokens();
        REQUIRE(std::ssize(read) == result.n_reused + result.n_read);
        REQUIRE(std::equal(read.begin(), read.end(), text.begin()));
        if (result.cancelled) REQUIRE(session_->n_reusable(text) >= std::ssize(read));
        remember(text);
        check_memory();
    }

    // What was under way is lost at most; all else goes on as if nothing had happened.
    void fail_somewhere() {
        const Text text = below(3) == 0 ? random_text(1 + below(200)) : edited(pick_text());
        const std::vector<int64_t> positions = some_positions(text);
        const int64_t what = below(4);
        backend_.fail_after(below(below(2) == 0 ? 12 : 300));
        try {
            if (what == 0) {
                Speculation guessing(*session_, SpeculationMode::always);
                for (const int32_t token : repetitive_ids(20)) guessing.append(token);
                guessing.settle();
            } else if (what == 1 && !session_->tokens().empty()) {
                session_->save(folder_ / "failed");
                session_->restore(folder_ / "failed");
            } else {
                session_->sync(text, positions);
            }
        } catch (const Error& error) {
            REQUIRE((error.code() == ErrorCode::out_of_memory ||
                     error.code() == ErrorCode::context_full));
            ++counts_.n_failed;
        }
        backend_.be_well();
        if (what == 1) kept_.clear();  // not all of them are saved
        check_memory();
        if (below(2) == 0 && !session_->tokens().empty() &&
            std::ssize(session_->tokens()) < kMostTokens) {
            const auto logits = session_->append(random_text(1));
            check_logits(logits, session_->tokens());
        }
    }

    void prepare() {
        if (below(4) == 0) backend_.fail_after(below(4));
        session_->prepare();
        backend_.be_well();
        check_memory();
    }

    void save_and_load() {
        const Text live = session_->tokens();
        session_->save(folder_ / "state");
        begin_session();
        session_->restore(folder_ / "state");
        REQUIRE(session_->tokens() == live);
        ++counts_.n_restored;
        check_memory();
    }

    // Into a session that has lived on since.
    void go_back_in_time() {
        if (below(2) == 0) return session_->save(folder_ / "old");
        if (!std::filesystem::exists(folder_ / "old")) return;
        session_->restore(folder_ / "old");
        kept_.clear();
        ++counts_.n_restored;
        check_memory();
    }

    void refuse() {
        const Text live = session_->tokens();
        CHECK_THROWS_AS(session_->sync(random_text(kMostTokens + 1)), Error);
        CHECK_THROWS_AS(session_->restore(folder_ / "missing"), Error);
        REQUIRE(session_->tokens() == live);
    }

    const Model& model_;
    FailingBackend& backend_;
    SessionOptions options_;
    Fresh fresh_;
    std::mt19937_64 random_;
    Counts& counts_;
    TempFolder folder_;
    std::unique_ptr<Session> session_;
    std::vector<Text> texts_;
    std::vector<Text> kept_;  // prefixes of which a checkpoint was asked for
};

}  // namespace

TEST_CASE("random lives of sessions give the logits of fresh ones") {
    const char* wanted = std::getenv("NEMO_TEST_STEPS");
    const int64_t n_steps = wanted == nullptr ? 320 : std::atoll(wanted);
    Counts counts;
    uint32_t seed = wanted == nullptr ? 1 : 1000;
    const auto backend = make_cpu_backend(2);
    const std::vector<std::pair<std::string, DType>> models = {{"dense", DType::q8_0},
                                                               {"one_group", DType::f32},
                                                               {"nemotron", DType::q8_0},
                                                               {"puzzle", DType::f32}};
    std::vector<std::unique_ptr<GoldenModel>> files;
    for (const auto& [name, type] : models)
        files.push_back(std::make_unique<GoldenModel>(name, type));
    while (counts.n_steps < n_steps)
        for (size_t i = 0; i < models.size(); ++i) {
            FailingBackend failing(*backend);
            const Model model(files[i]->file(), failing);
            const int64_t n_bytes = recurrent_state_bytes(model.config()) +
                                    kKvPageRows * kv_bytes_per_token(model.config());
            // Room for all; for three states, with and without a disk; for none.
            SessionOptions options = {.checkpoint_interval = 50};
            const uint32_t memory = seed++ % 4;
            if (memory > 0) options.state_budget = memory == 3 ? 1 : 3 * n_bytes;
            if (memory == 1 || memory == 3) options.spill_folder = "yes";
            CAPTURE(models[i].first);
            CAPTURE(memory);
            CAPTURE(seed);
            Life life(model, failing, options, seed, counts);
            for (int64_t step = 0; step < 40; ++step) {
                CAPTURE(step);
                life.step();
            }
        }
    MESSAGE(counts.n_steps << " steps, " << counts.n_reused << " tokens reused, " << counts.n_read
                           << " read, " << counts.n_restored << " times restored, "
                           << counts.n_cancelled << " cancelled, " << counts.n_failed << " failed, "
                           << counts.n_spilled << " steps with states on disk");
    CHECK(counts.n_reused > counts.n_read / 4);
    CHECK(counts.n_spilled > 0);
    CHECK(counts.n_cancelled > 0);
    CHECK(counts.n_failed > 0);
    CHECK(counts.n_restored > 0);
}
