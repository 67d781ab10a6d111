#include "models/speculation.h"

#include <algorithm>

namespace nemo {

namespace {

// Guesses double when all of them hold and shrink to what held.
constexpr int64_t kFirstGuess = 3;
constexpr int64_t kMostGuess = Session::kMostLookedAt - 1;
// Of the time that plain steps would have taken; and what may be lost before there is any.
constexpr double kMostLoss = 0.01;
constexpr double kFreeLosses = 1;  // in plain steps
// What a guess that fails costs at most, as a rule: it has to fit into what may be lost.
constexpr double kCostOfFailure = 0.5;  // in plain steps
// What was gained covers later losses up to this, so that a change of the text is noticed.
constexpr double kMostCredit = 8;  // in plain steps
constexpr double kSmoothing = 0.2;

}  // namespace

Speculation::Speculation(Session& session, SpeculationMode mode)
    : session_(session), mode_(mode), guess_length_(kFirstGuess) {
    if (mode_ != SpeculationMode::off) lookup_.add(session.tokens());
}

std::span<const float> Speculation::logits_after(int64_t index) const {
    const size_t n_vocab = logits_.size() / looked_at_.size();
    return logits_.subspan(static_cast<size_t>(index) * n_vocab, n_vocab);
}

std::span<const float> Speculation::append(int32_t token) {
    if (mode_ == SpeculationMode::off) return session_.append({&token, 1});
    lookup_.add(token);
    ++n_tokens_;
    if (n_agreed_ < std::ssize(looked_at_) && looked_at_[static_cast<size_t>(n_agreed_)] == token) {
        ++n_accepted_;
        return logits_after(n_agreed_++);
    }
    settle();
    const std::vector<int32_t> guess = make_guess();
    if (guess.empty()) return append_alone(token);
    verify(token, guess);
    return logits_after(n_agreed_++);
}

bool Speculation::pays() const {
    if (mode_ == SpeculationMode::always) return true;
    return plain_seconds_ > 0 &&
           lost_seconds_ < plain_seconds_ * (kFreeLosses - kCostOfFailure + kMostLoss * n_tokens_);
}

std::vector<int32_t> Speculation::make_guess() const {
    if (!pays()) return {};
    const int64_t room = session_.n_context() - session_.state().position() - 1;
    return lookup_.guess(std::min(guess_length_, room));
}

std::span<const float> Speculation::append_alone(int32_t token) {
    const auto start = Clock::now();
    const std::span<const float> logits = session_.append({&token, 1});
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    plain_seconds_ =
        plain_seconds_ == 0 ? seconds : plain_seconds_ + kSmoothing * (seconds - plain_seconds_);
    return logits;
}

void Speculation::verify(int32_t token, const std::vector<int32_t>& guess) {
    const auto start = Clock::now();
    looked_at_ = {token};
    looked_at_.insert(looked_at_.end(), guess.begin(), guess.end());
    logits_ = session_.look_at(looked_at_);
    n_drafted_ += std::ssize(guess);
    verify_seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
}

void Speculation::settle() {
    if (looked_at_.empty()) return;
    const auto start = Clock::now();
    session_.take_in(n_agreed_);
    verify_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
    adapt();
    looked_at_.clear();
    n_agreed_ = 0;
}

void Speculation::adapt() {
    lost_seconds_ += verify_seconds_ - static_cast<double>(n_agreed_) * plain_seconds_;
    lost_seconds_ = std::max(lost_seconds_, -kMostCredit * plain_seconds_);
    const bool all_held = n_agreed_ == std::ssize(looked_at_);
    guess_length_ = std::clamp<int64_t>(all_held ? 2 * guess_length_ : n_agreed_, 1, kMostGuess);
}

}  // namespace nemo
