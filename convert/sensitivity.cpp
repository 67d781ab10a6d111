#include "convert/sensitivity.h"

#include <algorithm>
#include <map>
#include <set>

namespace nemo {

namespace {

// Measured on the demo model with chat text, one matrix at a time in Q4_0 and the rest in F32: mean
// KL divergence per unit of relative squared error, as tests/oracle/compare_fit.py prints it.
// token_embd 1.75, output 1.15; ssm_in 1.89, 0.28 and 0.34 in layers 0, 2 and 5, ssm_out 0.80, 0.14
// and 0.08; ffn_up 0.46, 0.12 and 0.22 in layers 1, 4 and 6, ffn_down 0.50, 0.03 and 0.07; in layer
// 3 attn_q 0.17, attn_k 0.09, attn_v and attn_output 0.10.
//
// The one attention layer of a model that small has little to remember. NVIDIA's recipes for large
// members keep attention in BF16 where the rest has 8 or 4 bits, so here it counts as much as the
// most sensitive layers. Experts and latent projections, which the demo lacks, count like an MLP.
double default_sensitivity(TensorRole role) {
    switch (role) {
        case TensorRole::token_embedding:
            return 1.75;
        case TensorRole::output:
            return 1.15;
        case TensorRole::ssm_in:
        case TensorRole::attn_q:
        case TensorRole::attn_k:
        case TensorRole::attn_v:
        case TensorRole::attn_output:
            return 0.35;
        case TensorRole::ssm_out:
            return 0.13;
        case TensorRole::ffn_down:
        case TensorRole::experts_down:
        case TensorRole::shared_down:
            return 0.07;
        default:
            return 0.14;
    }
}

// The first eighth of the layers, at least two: where the residual stream is still small.
constexpr double kFirstLayers = 5.0;
// Mamba layers before attention, in BF16 too in those recipes; above, layer 2 is no worse than 5.
constexpr double kFeedsAttention = 1.5;

int n_first_layers(std::span<const TensorSpec> specs) {
    int n_layers = 0;
    for (const TensorSpec& spec : specs) n_layers = std::max(n_layers, spec.layer + 1);
    return std::max(2, n_layers / 8);
}

std::vector<double> default_sensitivities(std::span<const TensorSpec> specs) {
    const std::set<int> feeding = layers_before_attention(specs);
    const int n_first = n_first_layers(specs);
    std::vector<double> result;
    for (const TensorSpec& spec : specs) {
        const bool first = spec.layer >= 0 && spec.layer < n_first;
        result.push_back(default_sensitivity(spec.role) * (first ? kFirstLayers : 1.0) *
                         (feeding.contains(spec.layer) ? kFeedsAttention : 1.0));
    }
    return result;
}

}  // namespace

std::vector<double> sensitivities(std::span<const TensorSpec> specs, const Importance* importance) {
    std::vector<double> result = default_sensitivities(specs);
    if (importance == nullptr || importance->sensitivity.empty()) return result;
    // A value that a kind of tensors shares was measured with all of them at once: it is their
    // mean.
    struct Shared {
        double default_sum = 0;
        double n = 0;
    };
    std::map<std::pair<std::string, double>, Shared> kinds;
    double measured_sum = 0;
    double default_sum = 0;
    const auto measured = [&](size_t i) { return importance->find_sensitivity(specs[i].name); };
    for (size_t i = 0; i < specs.size(); ++i) {
        if (!measured(i)) continue;
        Shared& kind = kinds[{tensor_stem(specs[i].name), *measured(i)}];
        kind.default_sum += result[i];
        ++kind.n;
        measured_sum += *measured(i);
        default_sum += result[i];
    }
    if (measured_sum <= 0) return result;
    for (size_t i = 0; i < specs.size(); ++i) {
        double level = measured_sum / default_sum;
        if (measured(i)) {
            const Shared& kind = kinds.at({tensor_stem(specs[i].name), *measured(i)});
            level = *measured(i) * kind.n / kind.default_sum;
        }
        result[i] *= level;
    }
    return result;
}

}  // namespace nemo
