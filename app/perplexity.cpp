#include "app/perplexity.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace nemo {

namespace {

template <class T>
double log_sum_exp_of(std::span<const T> values) {
    NEMO_ASSERT(!values.empty());
    const double largest = *std::ranges::max_element(values);
    double sum = 0;
    for (const T value : values) sum += std::exp(value - largest);
    return largest + std::log(sum);
}

}  // namespace

double log_sum_exp(std::span<const float> values) {
    return log_sum_exp_of(values);
}

double log_sum_exp(std::span<const double> values) {
    return log_sum_exp_of(values);
}

double kl_divergence(std::span<const double> base_log_probs, std::span<const float> logits,
                     double logits_log_sum_exp) {
    NEMO_ASSERT(base_log_probs.size() == logits.size());
    const double base_sum = log_sum_exp(base_log_probs);
    double divergence = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        const double log_p = base_log_probs[i] - base_sum;
        divergence += std::exp(log_p) * (log_p - (logits[i] - logits_log_sum_exp));
    }
    return divergence;
}

int64_t top_index(std::span<const float> values) {
    return std::distance(values.begin(), std::ranges::max_element(values));
}

Estimate mean(std::span<const double> values) {
    NEMO_ASSERT(!values.empty());
    const auto n = static_cast<double>(values.size());
    double sum = 0;
    for (const double value : values) sum += value;
    const double average = sum / n;
    if (values.size() < 2) return {average, 0};
    double squares = 0;
    for (const double value : values) squares += (value - average) * (value - average);
    return {average, std::sqrt(squares / n / (n - 1))};
}

Estimate perplexity(std::span<const double> nll) {
    const Estimate loss = mean(nll);
    const double value = std::exp(loss.value);
    return {value, value * loss.error};
}

Estimate perplexity_ratio(std::span<const double> nll, std::span<const double> base_nll) {
    NEMO_ASSERT(nll.size() == base_nll.size());
    std::vector<double> differences;
    std::ranges::transform(nll, base_nll, std::back_inserter(differences), std::minus{});
    return perplexity(differences);
}

Estimate share(int64_t n_yes, int64_t n) {
    NEMO_ASSERT(n > 0);
    const double value = static_cast<double>(n_yes) / static_cast<double>(n);
    if (n < 2) return {value, 0};
    return {value, std::sqrt(value * (1 - value) / static_cast<double>(n - 1))};
}

double quantile(std::vector<double> values, double fraction) {
    NEMO_ASSERT(!values.empty() && fraction >= 0 && fraction <= 1);
    std::ranges::sort(values);
    const double rank = fraction * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, values.size() - 1);
    const double weight = rank - static_cast<double>(below);
    return (1 - weight) * values[below] + weight * values[above];
}

}  // namespace nemo
