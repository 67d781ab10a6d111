#include "core/sampler.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace nemo {

namespace {

void require(bool condition, const char* name, float value, const char* allowed) {
    if (!condition) fail(ErrorCode::usage, "{} is {}, but {} is needed", name, value, allowed);
}

size_t argmax(std::span<const float> logits) {
    size_t best = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        if (std::isnan(logits[i]))
            fail(ErrorCode::runtime, "the model produced NaN (logit of token {})", i);
        if (logits[i] > logits[best]) best = i;
    }
    if (!std::isfinite(logits[best]))
        fail(ErrorCode::runtime, "the model produced no finite logit (the largest is {})",
             logits[best]);
    return best;
}

}  // namespace

Sampler::Sampler(const SamplerParams& params) : params_(params), random_(params.seed) {
    const SamplerParams& p = params_;
    require(std::isfinite(p.temperature) && p.temperature >= 0, "temperature", p.temperature,
            "a number from 0");
    require(p.top_k >= 0, "top-k", static_cast<float>(p.top_k), "a number from 0");
    require(p.top_p > 0 && p.top_p <= 1, "top-p", p.top_p, "0 < p <= 1");
    require(p.min_p >= 0 && p.min_p <= 1, "min-p", p.min_p, "0 <= p <= 1");
    require(std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0, "repetition penalty",
            p.repetition_penalty, "a number above 0");
    require(std::isfinite(p.presence_penalty), "presence penalty", p.presence_penalty, "a number");
    require(std::isfinite(p.frequency_penalty), "frequency penalty", p.frequency_penalty,
            "a number");
    require(p.penalty_window >= 0, "penalty window", static_cast<float>(p.penalty_window),
            "a number from 0");
}

void Sampler::accept(int32_t token) {
    const auto window = static_cast<size_t>(params_.penalty_window);
    if (window == 0) return;
    if (history_.size() < window) {
        history_.push_back(token);
        return;
    }
    history_[history_next_] = token;
    history_next_ = (history_next_ + 1) % window;
}

void Sampler::apply_penalties(std::vector<float>& logits) const {
    std::unordered_map<int32_t, int> counts;
    for (const int32_t token : history_) ++counts[token];
    for (const auto& [token, count] : counts) {
        float& logit = logits[static_cast<size_t>(token)];
        logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
        logit -= params_.presence_penalty + static_cast<float>(count) * params_.frequency_penalty;
    }
}

int32_t Sampler::sample(std::span<const float> raw_logits) {
    argmax(raw_logits);  // refuses NaN before anything is derived from it
    std::vector<float> logits(raw_logits.begin(), raw_logits.end());
    const bool penalized = params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
                           params_.frequency_penalty != 0.0f;
    if (penalized) apply_penalties(logits);
    if (params_.temperature == 0.0f) return static_cast<int32_t>(argmax(logits));

    std::vector<Candidate> candidates;
    candidates.reserve(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
        candidates.push_back({static_cast<int32_t>(i), logits[i]});
    return sample_from(candidates);
}

// The filters work on sorted candidates: top-k, then min-p and top-p of what is left, as llama.cpp
// orders them (temperature last, so that it does not change which candidates survive).
int32_t Sampler::sample_from(std::vector<Candidate>& candidates) {
    const auto more_probable = [](const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    };
    const auto top_k = static_cast<size_t>(params_.top_k);
    if (top_k > 0 && top_k < candidates.size()) {
        std::ranges::partial_sort(candidates, candidates.begin() + params_.top_k, more_probable);
        candidates.resize(top_k);
    } else {
        std::ranges::sort(candidates, more_probable);
    }

    const float best = candidates.front().logit;
    double total = 0;
    for (const Candidate& candidate : candidates) total += std::exp(candidate.logit - best);
    size_t n_kept = 0;
    double kept = 0;
    for (const Candidate& candidate : candidates) {
        const double relative = std::exp(candidate.logit - best);
        if (n_kept > 0 && (kept >= params_.top_p * total || relative < params_.min_p)) break;
        kept += relative;
        ++n_kept;
    }
    candidates.resize(n_kept);

    std::vector<double> cumulative;
    double sum = 0;
    for (const Candidate& candidate : candidates) {
        sum += std::exp((candidate.logit - best) / params_.temperature);
        cumulative.push_back(sum);
    }
    // 53 random bits; std::uniform_real_distribution differs between standard libraries.
    const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
    const auto chosen = std::ranges::upper_bound(cumulative, uniform * sum);
    const auto index = std::min<ptrdiff_t>(chosen - cumulative.begin(), std::ssize(cumulative) - 1);
    return candidates[static_cast<size_t>(index)].token;
}

}  // namespace nemo
