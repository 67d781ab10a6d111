#include "core/error.h"
#include "core/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

using namespace nemo;

namespace {

SamplerParams plain() {
    return {.temperature = 1.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.0f, .seed = 1};
}

std::map<int32_t, int> histogram(const SamplerParams& params, const std::vector<float>& logits,
                                 int n) {
    Sampler sampler(params);
    std::map<int32_t, int> counts;
    for (int i = 0; i < n; ++i) ++counts[sampler.sample(logits)];
    return counts;
}

}  // namespace

TEST_CASE("temperature 0 takes the most probable token, the first of equals") {
    Sampler sampler({.temperature = 0.0f});
    CHECK(sampler.sample(std::vector<float>{0.5f, 2.0f, -1.0f, 2.0f}) == 1);
}

TEST_CASE("sampled frequencies follow the softmax") {
    const std::vector<float> logits = {std::log(0.6f), std::log(0.3f), std::log(0.1f)};
    constexpr int kSamples = 20000;
    const auto counts = histogram(plain(), logits, kSamples);
    // Three standard deviations of a binomial are below 0.011.
    CHECK(std::abs(counts.at(0) / double{kSamples} - 0.6) < 0.011);
    CHECK(std::abs(counts.at(1) / double{kSamples} - 0.3) < 0.011);
    CHECK(std::abs(counts.at(2) / double{kSamples} - 0.1) < 0.011);
}

TEST_CASE("filters keep what they should") {
    const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                       std::log(0.05f)};
    SamplerParams params = plain();
    const auto n_kept = [&] { return histogram(params, logits, 2000).size(); };
    CHECK(n_kept() == 4);
    params.top_k = 2;
    CHECK(n_kept() == 2);
    params = plain();
    params.top_p = 0.79f;
    CHECK(n_kept() == 2);
    params.top_p = 0.81f;
    CHECK(n_kept() == 3);
    params = plain();
    params.min_p = 0.25f;  // 0.15 / 0.5 passes, 0.05 / 0.5 does not
    CHECK(n_kept() == 3);
}

TEST_CASE("the same seed gives the same tokens, another one others") {
    const std::vector<float> logits(100, 0.0f);
    const auto draw = [&](uint64_t seed) {
        SamplerParams params = plain();
        params.seed = seed;
        Sampler sampler(params);
        std::vector<int32_t> tokens;
        for (int i = 0; i < 20; ++i) tokens.push_back(sampler.sample(logits));
        return tokens;
    };
    CHECK(draw(7) == draw(7));
    CHECK(draw(7) != draw(8));
}

TEST_CASE("penalties act on the tokens of the window") {
    const std::vector<float> logits = {2.0f, 1.5f, -1.0f};
    SamplerParams params = {.temperature = 0.0f};
    SUBCASE("repetition divides positive logits") {
        params.repetition_penalty = 2.0f;
        Sampler sampler(params);
        sampler.accept(0);
        CHECK(sampler.sample(logits) == 1);
    }
    SUBCASE("presence counts once") {
        params.presence_penalty = 0.4f;
        Sampler sampler(params);
        sampler.accept(0);
        sampler.accept(0);
        CHECK(sampler.sample(logits) == 0);
    }
    SUBCASE("frequency counts every time") {
        params.frequency_penalty = 0.4f;
        Sampler sampler(params);
        sampler.accept(0);
        CHECK(sampler.sample(logits) == 0);
        sampler.accept(0);
        CHECK(sampler.sample(logits) == 1);
    }
    SUBCASE("tokens leave the window") {
        params.presence_penalty = 5.0f;
        params.penalty_window = 2;
        Sampler sampler(params);
        sampler.accept(0);
        sampler.accept(2);
        CHECK(sampler.sample(logits) == 1);
        sampler.accept(2);
        CHECK(sampler.sample(logits) == 0);
    }
}

TEST_CASE("bad logits and parameters are errors") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float temperature : {0.0f, 1.0f}) {
        Sampler sampler({.temperature = temperature});
        CHECK_THROWS_AS(sampler.sample(std::vector<float>{1.0f, nan}), Error);
        CHECK_THROWS_AS(sampler.sample(std::vector<float>{nan, 1.0f}), Error);
        CHECK_THROWS_AS(sampler.sample(std::vector<float>{-infinity, -infinity}), Error);
        CHECK_THROWS_AS(sampler.sample(std::vector<float>{infinity, 0.0f}), Error);
    }
    CHECK_THROWS_AS(Sampler({.temperature = -1.0f}), Error);
    CHECK_THROWS_AS(Sampler({.temperature = nan}), Error);
    CHECK_THROWS_AS(Sampler({.top_k = -1}), Error);
    CHECK_THROWS_AS(Sampler({.top_p = 0.0f}), Error);
    CHECK_THROWS_AS(Sampler({.top_p = 1.5f}), Error);
    CHECK_THROWS_AS(Sampler({.min_p = -0.1f}), Error);
    CHECK_THROWS_AS(Sampler({.repetition_penalty = 0.0f}), Error);
}
