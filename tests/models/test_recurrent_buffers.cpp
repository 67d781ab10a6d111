// Memory of recurrent states is used again, within limits.
#include "models/recurrent_buffers.h"
#include "tests/models/failing_backend.h"
#include "tests/models/sync_helpers.h"

#include <map>
#include <set>

using namespace nemo;

namespace {

class CountingBackend final : public FailingBackend {
public:
    using FailingBackend::FailingBackend;
    FloatBuffer alloc(int64_t n_floats) override {
        ++allocated[n_floats];
        return FailingBackend::alloc(n_floats);
    }
    std::map<int64_t, int> allocated;  // how often, by size
};

const SessionOptions kOptions = {.n_context = 1000};

// Saves a session with these tokens that kept its state after 30 of them; returns that state's
// size.
int64_t save_session(const Model& model, const std::vector<int32_t>& ids,
                     const std::string& folder) {
    Session session(model, kOptions);
    session.sync(ids, std::vector<int64_t>{30});
    session.save(folder);
    return session.state().n_recurrent();
}

}  // namespace

TEST_CASE("a state's memory goes back when it is let go and is used again, up to a limit") {
    const auto backend = make_cpu_backend(1);
    RecurrentBuffers buffers(*backend, 1000);
    std::set<float*> addresses;
    {
        std::vector<FloatBuffer> held;
        for (int i = 0; i < 5; ++i) {
            held.push_back(buffers.get());
            addresses.insert(held.back().get());
        }
        CHECK(addresses.size() == 5);
        CHECK(buffers.n_spare() == 0);
        held[1] = std::move(held[0]);  // what it held before goes back
        CHECK(buffers.n_spare() == 1);
        CHECK(addresses.count(buffers.get().get()) == 1);
        CHECK(buffers.n_spare() == 1);
    }
    CHECK(buffers.n_spare() == RecurrentBuffers::kMostSpare);
    buffers.limit(1);
    CHECK(buffers.n_spare() == 1);
    buffers.prepare(2);
    CHECK(buffers.n_spare() == 2);
    buffers.prepare(100);
    CHECK(buffers.n_spare() == RecurrentBuffers::kMostSpare);
}

TEST_CASE("a buffer may outlive what it came from") {
    const auto backend = make_cpu_backend(1);
    FloatBuffer buffer;
    {
        RecurrentBuffers buffers(*backend, 1000);
        buffer = buffers.get();
    }
    buffer[999] = 1;
    CHECK(buffer[999] == 1);
}

TEST_CASE("after prepare() a message takes no fresh memory for states") {
    const GoldenModel golden("one_group", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 1000});
    const std::vector<int32_t> ids = random_ids(60, 1);
    session.sync(ids, std::vector<int64_t>{30, 50});
    session.prepare();
    CHECK(session.state().buffers().n_spare() == 3);
    // Leaves its state, keeps two.
    session.sync(joined(first_of(ids, 50), random_ids(9, 2)), std::vector<int64_t>{53, 57});
    CHECK(session.state().buffers().n_spare() == 0);
    CHECK(session.n_kept_bytes() == session.checkpoints().n_bytes());
}

TEST_CASE("spare states stay within the budget, but for one") {
    const GoldenModel golden("one_group", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const int64_t n_bytes = recurrent_state_bytes(model.config());
    for (const int64_t n : {0, 1, 2, 4}) {
        CAPTURE(n);
        Session session(model, {.n_context = 1000, .state_budget = n * n_bytes + 1});
        session.sync(random_ids(60, 1), std::vector<int64_t>{30});
        session.prepare();
        CHECK(session.n_kept_bytes() == std::min<int64_t>(n + 1, 4) * n_bytes);
        session.sync(random_ids(60, 2), std::vector<int64_t>{10, 20, 40, 50});
        CHECK(session.n_kept_bytes() <= (n + 1) * n_bytes);
    }
}

TEST_CASE("prepare() that finds no memory leaves a session as it was") {
    const GoldenModel golden("one_group", DType::f32);
    const auto backend = make_cpu_backend(1);
    FailingBackend failing(*backend);
    const Model model(golden.file(), failing);
    const std::vector<int32_t> ids = random_ids(60, 1);
    const TempFolder folder;
    save_session(model, ids, folder / "state");
    const std::vector<int32_t> text = joined(first_of(ids, 30), random_ids(9, 2));
    const std::vector<float> expected = Fresh(model, kOptions).logits(text);
    for (int64_t n = 0, failed = true; failed; ++n) {
        CAPTURE(n);
        Session session(model, kOptions);
        session.restore(folder / "state");
        failing.fail_after(n);
        session.prepare();
        failed = !failing.be_well();
        REQUIRE((failed || n >= 4));
        const SyncResult result = session.sync(text);
        CHECK(result.n_reused == 30);
        CHECK(std::ranges::equal(result.logits, expected));
        session.prepare();
        CHECK(session.state().buffers().n_spare() > 0);
    }
}

TEST_CASE("after a restart a turn takes fresh memory for the states that it keeps, no other") {
    const GoldenModel golden("one_group", DType::f32);
    const auto backend = make_cpu_backend(1);
    CountingBackend counting(*backend);
    const Model model(golden.file(), counting);
    const std::vector<int32_t> ids = random_ids(60, 1);
    const TempFolder folder;
    const int64_t n_floats = save_session(model, ids, folder / "state");
    // On from the end, and back to what was kept.
    for (const int64_t n_shared : {60, 30}) {
        CAPTURE(n_shared);
        Session session(model, kOptions);
        session.restore(folder / "state");
        counting.allocated.clear();
        const std::vector<int64_t> kept = {n_shared + 3, n_shared + 7};
        session.sync(joined(first_of(ids, n_shared), random_ids(9, 2)), kept);
        CHECK(counting.allocated[n_floats] == std::ssize(kept));
    }
}
