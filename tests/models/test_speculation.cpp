// Tokens that are looked at before they are taken in, and guesses: always the logits and the state
// of one token after the other, to the bit.
#include "models/speculation.h"
#include "tests/models/sync_helpers.h"

#include <algorithm>

using namespace nemo;

namespace {

std::vector<float> copy_of(std::span<const float> values) {
    return {values.begin(), values.end()};
}

std::vector<float> recurrent_of(const Session& session) {
    return copy_of(
        {session.state().recurrent(), static_cast<size_t>(session.state().n_recurrent())});
}

// The logits after each of `ids`, one at a time.
std::vector<std::vector<float>> plain_logits(Session& session, std::span<const int32_t> ids) {
    std::vector<std::vector<float>> rows;
    for (const int32_t id : ids) rows.push_back(copy_of(session.append({&id, 1})));
    return rows;
}

}  // namespace

TEST_CASE("what is looked at changes nothing until it is taken in") {
    for (const char* name : {"mixed_order", "moe_latent", "dense"}) {
        for (const DType type : {DType::f32, DType::q8_0}) {
            CAPTURE(name);
            const GoldenModel golden(name, type);
            const auto backend = make_cpu_backend(2);
            const Model model(golden.file(), *backend);
            Session plain(model, {.n_context = 600}), session(model, {.n_context = 600});
            // Past the end of a page of the cache.
            const std::vector<int32_t> prompt = random_ids(250, 1), text = random_ids(64, 2);
            plain.append(prompt);
            session.append(prompt);
            const auto expected = plain_logits(plain, text);
            const size_t n_vocab = expected[0].size();
            size_t n_read = 0;
            for (const auto& [n_looked, n_taken] :
                 {std::pair{1, 1}, {2, 0}, {2, 1}, {16, 1}, {5, 3}, {16, 16}, {3, 3}, {16, 7}}) {
                CAPTURE(n_looked);
                const auto ids = std::span(text).subspan(n_read, static_cast<size_t>(n_looked));
                const std::vector<float> before = recurrent_of(session);
                const std::vector<float> rows = copy_of(session.look_at(ids));
                REQUIRE(rows.size() == ids.size() * n_vocab);
                for (size_t i = 0; i < ids.size(); ++i)
                    CHECK(std::ranges::equal(std::span(rows).subspan(i * n_vocab, n_vocab),
                                             expected[n_read + i]));
                CHECK(recurrent_of(session) == before);
                CHECK(std::ssize(session.tokens()) == 250 + static_cast<int64_t>(n_read));
                session.take_in(n_taken);
                n_read += static_cast<size_t>(n_taken);
                CHECK(session.tokens() ==
                      joined(prompt, first_of(text, static_cast<int64_t>(n_read))));
            }
            // The last logits are known, and what follows is as if nothing had been looked at.
            CHECK(std::ranges::equal(session.sync(session.tokens()).logits, expected[n_read - 1]));
            for (; n_read < text.size(); ++n_read)
                CHECK(std::ranges::equal(session.append({&text[n_read], 1}), expected[n_read]));
            CHECK(recurrent_of(session) == recurrent_of(plain));
        }
    }
}

TEST_CASE("a checkpoint before what was looked at stays what it is") {
    const GoldenModel golden("mixed_order", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 100});
    const std::vector<int32_t> prompt = random_ids(20, 1), guess = random_ids(9, 2),
                               other = random_ids(9, 3);
    session.sync(prompt, std::vector<int64_t>{20});
    session.look_at(guess);
    session.take_in(4);
    session.look_at(guess);
    const SyncResult result = session.sync(joined(prompt, other));
    CHECK(result.n_reused == 20);
    const Fresh fresh(model, {.n_context = 100});
    CHECK(copy_of(result.logits) == fresh.logits(joined(prompt, other)));
}

TEST_CASE("guesses change no logits, whatever they are worth") {
    for (const char* name : {"mixed_order", "dense"}) {
        CAPTURE(name);
        const GoldenModel golden(name, DType::q8_0);
        const auto backend = make_cpu_backend(2);
        const Model model(golden.file(), *backend);
        const std::vector<int32_t> ids = repetitive_ids(300);
        Session plain(model, {.n_context = 300});
        const auto expected = plain_logits(plain, ids);
        for (const SpeculationMode mode :
             {SpeculationMode::off, SpeculationMode::when_it_pays, SpeculationMode::always}) {
            Session session(model, {.n_context = 300});
            session.append(first_of(ids, 40));
            Speculation speculation(session, mode);
            for (size_t i = 40; i < ids.size(); ++i) {
                CHECK(std::ranges::equal(speculation.append(ids[i]), expected[i]));
                CHECK(speculation.position() == static_cast<int64_t>(i) + 1);
            }
            speculation.settle();
            CHECK(session.tokens() == ids);
            CHECK(recurrent_of(session) == recurrent_of(plain));
            CHECK(speculation.n_accepted() <= speculation.n_drafted());
            if (mode == SpeculationMode::off) CHECK(speculation.n_drafted() == 0);
            if (mode == SpeculationMode::always) CHECK(speculation.n_accepted() > 150);
        }
    }
}

TEST_CASE("where guesses always fail, few are made") {
    const GoldenModel golden("mixed_order", DType::q8_0);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    // The same three tokens again and again, and never the same behind them.
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 120; ++i) ids.insert(ids.end(), {1, 2, 3, 10 + i});
    const auto n_drafted = [&](SpeculationMode mode) {
        Session session(model, {.n_context = 600});
        session.append(first_of(ids, 40));
        Speculation speculation(session, mode);
        for (size_t i = 40; i < ids.size(); ++i) speculation.append(ids[i]);
        CHECK(speculation.n_accepted() == 0);
        return speculation.n_drafted();
    };
    const int64_t n_always = n_drafted(SpeculationMode::always);
    CHECK(n_always >= 110);
    // Typically a tenth; times are measured, and other programs may slow the plain steps.
    CHECK(n_drafted(SpeculationMode::when_it_pays) < n_always * 9 / 10);
}
