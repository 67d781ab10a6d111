// Several tokens for the price of one: a guess at what comes next (models/prompt_lookup.h) is run
// together with the newest token, and as far as the tokens then chosen agree with it, their logits
// are there already. The logits are those of one token after the other, to the bit, so the choice
// does not change, whatever chooses.
//
// A guess that fails costs time: verifying n tokens takes longer than one. What was lost so far is
// measured against the time of plain steps, and nothing is guessed while it exceeds kMostLoss of
// it.
#pragma once

#include "models/prompt_lookup.h"
#include "models/session.h"

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

enum class SpeculationMode {
    off,           // every token is appended by itself
    when_it_pays,  // guesses as long as they do not cost time
    always,        // guesses whatever they cost: for tests, since it does not look at the clock
};

class Speculation {
public:
    // For the answer to what the session holds.
    Speculation(Session& session, SpeculationMode mode);

    // Tokens of the session and those that were chosen since.
    int64_t position() const { return session_.state().position() + n_agreed_; }
    // The logits after one more token, as Session::append.
    std::span<const float> append(int32_t token);
    // The session takes in the tokens that were appended. Else it stays behind by some of them.
    void settle();

    int64_t n_drafted() const { return n_drafted_; }
    int64_t n_accepted() const { return n_accepted_; }

private:
    using Clock = std::chrono::steady_clock;

    std::span<const float> logits_after(int64_t index) const;
    std::vector<int32_t> make_guess() const;
    std::span<const float> append_alone(int32_t token);
    void verify(int32_t token, const std::vector<int32_t>& guess);
    void adapt();
    bool pays() const;

    Session& session_;
    const SpeculationMode mode_;
    PromptLookup lookup_;
    // Tokens that were run without being taken in, and their logits [n, n_vocab].
    std::vector<int32_t> looked_at_;
    std::span<const float> logits_;
    int64_t n_agreed_ = 0;  // of looked_at_

    int64_t guess_length_;
    double verify_seconds_ = 0;  // of what was looked at
    double plain_seconds_ = 0;   // of one token by itself, smoothed; 0: not measured yet
    double lost_seconds_ = 0;    // negative: gained
    double n_tokens_ = 0;
    int64_t n_drafted_ = 0, n_accepted_ = 0;
};

}  // namespace nemo
