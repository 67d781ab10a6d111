#include "kernels/cpu/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nemo {

namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
// As the reference adds it to the sum of the weights.
constexpr float kTiny = 1e-20f;

float sigmoid(float x) {
    return 1.0f / (1.0f + std::exp(-x));
}

// The index of the largest of the scores not taken yet, the first of equals.
int64_t take_best(const float* scores, bool* taken, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; ++i)
        if (!taken[i] && (best < 0 || scores[i] > scores[best])) best = i;
    taken[best] = true;
    return best;
}

// Masks the experts of all but the n_groups_used best groups; a group counts by the sum of its two
// best experts.
void mask_groups(const RouterShape& shape, float* scores, RouterScratch& scratch) {
    const int64_t size = shape.n_experts / shape.n_groups;
    float* group_scores = scratch.group_scores.get(shape.n_groups);
    for (int64_t g = 0; g < shape.n_groups; ++g) {
        float first = kMasked, second = kMasked;
        for (const float* s = scores + g * size; s < scores + (g + 1) * size; ++s) {
            second = std::max(second, std::min(first, *s));
            first = std::max(first, *s);
        }
        group_scores[g] = size > 1 ? first + second : first;
    }
    bool* used = scratch.taken.get(std::max(shape.n_groups, shape.n_experts));
    std::fill_n(used, shape.n_groups, false);
    for (int64_t i = 0; i < shape.n_groups_used; ++i) take_best(group_scores, used, shape.n_groups);
    for (int64_t g = 0; g < shape.n_groups; ++g)
        if (!used[g]) std::fill_n(scores + g * size, size, kMasked);
}

}  // namespace

void route_token(const RouterShape& shape, const float* logits, const float* bias, int32_t* ids,
                 float* weights, RouterScratch& scratch) {
    float* scores = scratch.scores.get(shape.n_experts);
    for (int64_t e = 0; e < shape.n_experts; ++e)
        scores[e] = sigmoid(logits[e]) + (bias != nullptr ? bias[e] : 0.0f);
    if (shape.n_groups > 1) mask_groups(shape, scores, scratch);

    bool* taken = scratch.taken.get(shape.n_experts);
    std::fill_n(taken, shape.n_experts, false);
    float sum = 0.0f;
    for (int64_t i = 0; i < shape.n_used; ++i) {
        ids[i] = static_cast<int32_t>(take_best(scores, taken, shape.n_experts));
        weights[i] = sigmoid(logits[ids[i]]);
        sum += weights[i];
    }
    const float divisor = shape.normalize ? sum + kTiny : 1.0f;
    for (int64_t i = 0; i < shape.n_used; ++i) weights[i] = weights[i] / divisor * shape.scale;
}

}  // namespace nemo
