// Chooses the next token from logits. The same logits, parameters, seed and history give the same
// token on every machine.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace nemo {

struct SamplerParams {
    float temperature = 0.8f;  // 0: always the most probable token
    int32_t top_k = 40;        // 0: off
    float top_p = 0.95f;       // 1: off
    float min_p = 0.05f;       // relative to the most probable token; 0: off
    // Over the last `penalty_window` tokens of prompt and answer.
    float repetition_penalty = 1.0f;  // divides positive and multiplies negative logits; 1: off
    float presence_penalty = 0.0f;    // subtracted once per token that occurred
    float frequency_penalty = 0.0f;   // subtracted per occurrence
    int32_t penalty_window = 64;
    uint64_t seed = 0;
};

class Sampler {
public:
    // Throws Error{usage} naming a parameter that is out of range.
    explicit Sampler(const SamplerParams& params);

    // A token of the sequence so far, from the prompt or just sampled.
    void accept(int32_t token);
    // Throws Error{runtime} if the logits hold a NaN or nothing finite.
    int32_t sample(std::span<const float> logits);

private:
    struct Candidate {
        int32_t token;
        float logit;
    };
    void apply_penalties(std::vector<float>& logits) const;
    int32_t sample_from(std::vector<Candidate>& candidates);

    SamplerParams params_;
    std::vector<int32_t> history_;  // ring of the last penalty_window tokens
    size_t history_next_ = 0;
    std::mt19937_64 random_;
};

}  // namespace nemo
