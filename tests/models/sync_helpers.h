// Token sequences for tests of sessions, and what a session without a past makes of them.
#pragma once

#include "tests/models/golden_model.h"

#include <random>
#include <vector>

namespace nemo {

inline std::vector<int32_t> random_ids(size_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> ids(n);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 264);
    return ids;
}

inline std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

inline std::vector<int32_t> first_of(const std::vector<int32_t>& ids, int64_t n) {
    return {ids.begin(), ids.begin() + n};
}

// A text in which guesses hold for a while and then fail.
inline std::vector<int32_t> repetitive_ids(size_t n) {
    const std::vector<int32_t> phrase = random_ids(23, 7);
    std::vector<int32_t> ids;
    for (size_t i = 0; ids.size() < n; ++i)
        ids.push_back(i % 31 == 30 ? static_cast<int32_t>(i % 264) : phrase[i % phrase.size()]);
    return ids;
}

// A session of its own for every question.
class Fresh {
public:
    Fresh(const Model& model, SessionOptions options) : model_(model), options_(options) {}

    std::vector<float> logits(std::span<const int32_t> ids) const {
        Session session(model_, options_);
        const auto logits = session.append(ids);
        return {logits.begin(), logits.end()};
    }

private:
    const Model& model_;
    SessionOptions options_;
};

}  // namespace nemo
