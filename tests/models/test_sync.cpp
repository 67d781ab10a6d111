// Session::sync: what is reused, what is read, and that it makes no difference.
#include "core/error.h"
#include "tests/models/sync_helpers.h"

#include <algorithm>
#include <numeric>

using namespace nemo;

namespace {

void check_sync(Session& session, const Fresh& fresh, const std::vector<int32_t>& ids,
                const std::vector<int64_t>& checkpoints, int64_t n_reused) {
    CHECK(session.n_reusable(ids) == n_reused);
    const SyncResult result = session.sync(ids, checkpoints);
    CHECK(result.n_reused == n_reused);
    CHECK(result.n_read == std::ssize(ids) - n_reused);
    CHECK(!result.cancelled);
    CHECK(session.tokens() == ids);
    CHECK(session.state().position() == std::ssize(ids));
    CHECK(std::ranges::equal(result.logits, fresh.logits(ids)));
}

}  // namespace

TEST_CASE(
    "a conversation reads every token once: turns, another answer, an edit, the branch again") {
    for (const char* name : {"dense", "one_group", "puzzle"}) {
        CAPTURE(name);
        const GoldenModel golden(name, DType::q8_0);
        const auto backend = make_cpu_backend(2);
        const Model model(golden.file(), *backend);
        const SessionOptions options = {.n_context = 2000, .chunk = 64};
        const Fresh fresh(model, options);
        Session session(model, options);

        const std::vector<int32_t> turn1 = random_ids(300, 1), header = random_ids(5, 2),
                                   answer = random_ids(70, 3), turn2 = random_ids(33, 4);
        const std::vector<int32_t> prompt = joined(turn1, header);
        check_sync(session, fresh, prompt, {300}, 0);
        session.append(answer);

        // Another answer; the header is read again.
        check_sync(session, fresh, prompt, {300}, 300);
        session.append(random_ids(20, 5));
        // Back to the first answer: its state was left there.
        const std::vector<int32_t> whole = joined(joined(prompt, answer), turn2);
        check_sync(session, fresh, whole, {408}, 375);
        // The same again costs nothing.
        check_sync(session, fresh, whole, {408}, 408);
        // A template that drops the header from the history.
        const std::vector<int32_t> stripped = joined(joined(turn1, answer), turn2);
        check_sync(session, fresh, stripped, {403}, 300);
        // An edited second message.
        const std::vector<int32_t> edited = joined(joined(turn1, answer), random_ids(40, 6));
        check_sync(session, fresh, edited, {300, 410}, 300);
        check_sync(session, fresh, joined(whole, header), {}, 408);
        check_sync(session, fresh, joined(edited, header), {}, 410);
        // Nothing in common.
        check_sync(session, fresh, random_ids(50, 7), {}, 0);
    }
}

TEST_CASE("without recurrent layers a session can go back anywhere") {
    const GoldenModel golden("nemotron", DType::q8_0);
    const auto backend = make_cpu_backend(2);
    const Model model(golden.file(), *backend);
    const SessionOptions options = {.n_context = 2000, .chunk = 64};
    const Fresh fresh(model, options);
    Session session(model, options);
    const std::vector<int32_t> text = random_ids(600, 1);
    check_sync(session, fresh, text, {}, 0);
    const std::vector<int32_t> other = joined(first_of(text, 290), random_ids(300, 2));
    check_sync(session, fresh, other, {}, 290);
    check_sync(session, fresh, first_of(text, 512), {}, 511);
    check_sync(session, fresh, joined(first_of(other, 580), random_ids(9, 3)), {}, 580);
    check_sync(session, fresh, joined(text, random_ids(9, 4)), {}, 600);
}

TEST_CASE("checkpoints change nothing, wherever they are, for any chunks and threads") {
    for (const char* name : {"dense", "mixed_order", "one_group"})
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name);
            CAPTURE(cpu_tier_name(tier));
            const GoldenModel golden(name, DType::f32);
            const std::vector<int32_t> ids = random_ids(150, 9);
            std::vector<int64_t> everywhere(ids.size());
            std::iota(everywhere.begin(), everywhere.end(), 1);
            std::vector<float> first;
            for (const int n_threads : {1, 3}) {
                const auto backend = make_cpu_backend(n_threads, tier);
                const Model model(golden.file(), *backend);
                for (const int64_t chunk : {5, 64, 1000})
                    for (const std::vector<int64_t>& checkpoints :
                         {std::vector<int64_t>{}, {1, 2, 3, 64, 65, 149, 150}, everywhere}) {
                        Session session(model, {.n_context = 1000, .chunk = chunk});
                        const auto logits = session.sync(ids, checkpoints).logits;
                        if (first.empty()) first.assign(logits.begin(), logits.end());
                        CHECK(std::ranges::equal(logits, first));
                        // The states too: from each of them the end is the same.
                        if (checkpoints.size() != 7 || chunk == 5) continue;
                        for (const int64_t position : checkpoints) {
                            if (position == 150) continue;
                            session.sync(joined(first_of(ids, position), {7, 7}));
                            const SyncResult again = session.sync(ids);
                            CHECK(again.n_reused >= position);
                            CHECK(std::ranges::equal(again.logits, first));
                        }
                    }
            }
        }
}

TEST_CASE("a cancelled sync is continued, not repeated") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const SessionOptions options = {.n_context = 1000, .chunk = 16};
    const Fresh fresh(model, options);
    Session session(model, options);
    const std::vector<int32_t> ids = random_ids(100, 1);
    int n_asked = 0;
    const SyncResult result =
        session.sync(ids, std::vector<int64_t>{20, 90}, [&] { return ++n_asked == 4; });
    CHECK(result.cancelled);
    CHECK(result.logits.empty());
    CHECK(result.n_read == 48);
    CHECK(session.tokens() == first_of(ids, 48));
    check_sync(session, fresh, ids, {}, 48);
    check_sync(session, fresh, joined(first_of(ids, 20), {1, 2, 3}), {}, 20);
}

TEST_CASE("sync refuses what it cannot hold, and changes nothing") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 20});
    const std::vector<int32_t> ids = random_ids(18, 1);
    session.sync(ids);
    CHECK_THROWS_AS(session.sync({}), Error);
    CHECK_THROWS_AS(session.sync(std::vector<int32_t>{1, 264}), Error);
    CHECK_THROWS_AS(session.sync(random_ids(21, 2)), Error);
    CHECK(session.tokens() == ids);
    CHECK(session.sync(ids).n_read == 0);
}

TEST_CASE("inside a long prompt checkpoints get sparser the older they are") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(2);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 2000, .checkpoint_interval = 10});
    session.sync(random_ids(405, 1));
    std::vector<int64_t> positions;
    for (const Checkpoint& item : session.checkpoints().items())
        positions.push_back(item.state.position);
    CHECK(positions == std::vector<int64_t>{160, 240, 280, 320, 340, 360, 370, 380, 390, 400});

    Session none(model, {.n_context = 2000, .checkpoint_interval = 0});
    none.sync(random_ids(405, 1));
    CHECK(none.checkpoints().items().empty());
}

TEST_CASE("the budget drops periodic checkpoints, then left ones, and keeps branch points") {
    const GoldenModel golden("one_group", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const int64_t n_state_bytes = recurrent_state_bytes(model.config());
    const auto kept = [](const Session& session) {
        std::vector<int64_t> positions;
        for (const Checkpoint& item : session.checkpoints().items())
            positions.push_back(item.state.position);
        return positions;
    };
    const std::vector<int32_t> ids = random_ids(100, 1);
    const std::vector<int64_t> chat = {25, 45, 65};
    {
        Session session(
            model,
            {.n_context = 1000, .state_budget = 4 * n_state_bytes, .checkpoint_interval = 10});
        session.sync(ids, chat);
        CHECK(kept(session) == std::vector<int64_t>{25, 45, 65, 100});
        CHECK(session.checkpoints().n_bytes() <= 4 * n_state_bytes);
    }
    {
        Session session(model, {.n_context = 1000, .state_budget = n_state_bytes / 2});
        session.sync(ids, chat);
        CHECK(kept(session).empty());
    }
    {
        Session session(model, {.n_context = 1000, .state_budget = 3 * n_state_bytes});
        session.sync(ids, std::vector<int64_t>{30, 60});
        session.sync(joined(first_of(ids, 30), random_ids(40, 2)), std::vector<int64_t>{70});
        session.sync(joined(first_of(ids, 60), {1, 2}));
        // 30 is the oldest, but there the second text leaves the first.
        CHECK(kept(session) == std::vector<int64_t>{30, 60, 70});
        session.sync(joined(first_of(ids, 60), random_ids(40, 3)), std::vector<int64_t>{80});
        CHECK(kept(session) == std::vector<int64_t>{30, 60, 80});
    }
}

TEST_CASE("states in a file keep no pages in memory beyond the budget") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const TempFolder folder;
    const std::vector<int32_t> ids = random_ids(600, 1);
    {
        Session session(model, {.n_context = 1000});
        session.sync(ids, std::vector<int64_t>{300, 590});
        session.save(folder / "state");
    }
    const int64_t n_bytes = 2 * recurrent_state_bytes(model.config());
    Session session(model, {.n_context = 1000, .state_budget = n_bytes});
    session.restore(folder / "state");
    CHECK(session.checkpoints().items().size() == 2);
    // Its pages are nobody else's any more.
    session.sync(random_ids(20, 2));
    CHECK(session.checkpoints().n_bytes() <= n_bytes);
}
