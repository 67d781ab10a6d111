// The mathematics of perplexity and of the divergence of two models, in float64.
//
// What is measured, and the error bars, are those of llama-perplexity, so that numbers compare: a
// text is cut into chunks of c tokens, and the tokens of each chunk's second half are scored.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

// Scored tokens of a chunk: those at positions n_context / 2 + 1 to the end.
constexpr int64_t first_scored_position(int64_t n_context) {
    return n_context / 2 + 1;
}
constexpr int64_t n_scored(int64_t n_context) {
    return n_context - first_scored_position(n_context);
}

// ln(sum exp(x)), without overflow; NaN if one is NaN. Not empty.
double log_sum_exp(std::span<const float> values);
double log_sum_exp(std::span<const double> values);

// Sum p (ln p - ln q) in nats, p = exp(base) normalised, q = softmax(logits), whose log_sum_exp is
// given. Both [n_vocab].
double kl_divergence(std::span<const double> base_log_probs, std::span<const float> logits,
                     double logits_log_sum_exp);

// The first of the largest.
int64_t top_index(std::span<const float> values);

struct Estimate {
    double value = 0;
    double error = 0;  // standard error
};

// The error is the standard error of the mean; 0 for fewer than two values. Not empty.
Estimate mean(std::span<const double> values);
// exp of the mean of negative log-likelihoods, the error propagated to first order.
Estimate perplexity(std::span<const double> nll);
// Of one model's perplexity to another's on the same tokens. Computed from the differences, since
// the two are strongly correlated.
Estimate perplexity_ratio(std::span<const double> nll, std::span<const double> base_nll);
// Of yes-or-no outcomes, n_yes of n.
Estimate share(int64_t n_yes, int64_t n);

// Linear between the two nearest ranks; fraction in [0, 1]. Not empty.
double quantile(std::vector<double> values, double fraction);

}  // namespace nemo
