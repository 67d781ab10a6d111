#include "core/error.h"
#include "tests/models/golden_model.h"

#include <algorithm>

using namespace nemo;

TEST_CASE("a session refuses what does not fit, and stays usable") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 8, .chunk = 3});
    const std::vector<int32_t> tokens = {5, 6, 7, 8, 9};

    CHECK_THROWS_AS(session.append(std::vector<int32_t>{5, 264}), Error);
    CHECK_THROWS_AS(session.append(std::vector<int32_t>{-1}), Error);
    CHECK_THROWS_AS(session.append(std::vector<int32_t>(9, 5)), Error);
    CHECK(session.state().position() == 0);

    CHECK(session.append(tokens).size() == 264);
    CHECK(session.tokens() == tokens);
    try {
        session.append(tokens);
        FAIL("10 tokens fit into 8");
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::context_full);
    }
    CHECK(session.state().position() == 5);
}

TEST_CASE("a reset session starts anew") {
    const GoldenModel golden("mixed_order", DType::f32);
    const auto backend = make_cpu_backend(2);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 100, .chunk = 4});
    const std::vector<int32_t> tokens = {5, 6, 7, 8, 9, 10};
    const auto logits_after = [&] {
        const auto logits = session.append(tokens);
        return std::vector<float>(logits.begin(), logits.end());
    };
    const std::vector<float> first = logits_after();
    CHECK(logits_after() != first);
    session.reset();
    CHECK(session.tokens().empty());
    CHECK(logits_after() == first);
}

TEST_CASE("a cancelled prompt stops at a chunk's border") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    Session session(model, {.n_context = 100, .chunk = 2});
    int n_asked = 0;
    const auto logits = session.append(std::vector<int32_t>(10, 7), [&] { return ++n_asked == 3; });
    CHECK(logits.empty());
    CHECK(session.state().position() == 4);
    CHECK(session.tokens().size() == 4);
}

TEST_CASE("caches that grow keep what they hold, whatever the chunks") {
    const GoldenModel golden("dense", DType::f32);
    const auto backend = make_cpu_backend(2);
    const Model model(golden.file(), *backend);
    std::vector<int32_t> tokens(600);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * i % 251);
    std::vector<float> first;
    for (const int64_t chunk : {int64_t{600}, int64_t{1}, int64_t{250}}) {
        Session session(model, {.n_context = 600, .chunk = chunk});
        const auto logits = session.append(tokens);
        if (first.empty()) first.assign(logits.begin(), logits.end());
        CHECK(std::ranges::equal(logits, first));
    }
}
