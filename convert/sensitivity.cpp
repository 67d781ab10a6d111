#include "convert/sensitivity.h"

#include <algorithm>
#include <set>

namespace nemo {

namespace {

// Measured on the demo model, one tensor or kind of tensors at a time in Q3_K and the rest in F32:
// mean KL divergence per unit of relative squared error,
//   nemo-convert assets/demo x.gguf --type F32 --tensor-type blk.2.ssm_in.weight=Q3_K
//   nemo-cli perplexity -m x.gguf --kl BASE      (BASE: of the F32 file, over training questions)
//   nemo-convert verify x.gguf --against assets/demo                      (rms error, to be
//   squared)
// token_embd 3.0, output 0.69; ssm_in 3.4, 0.58 and 0.43 in layers 0, 2 and 5, ssm_out 1.26, 0.19
// and 0.10; ffn_up 0.77, 0.14 and 0.25 in layers 1, 4 and 6, ffn_down 0.56, 0.04 and 0.09; in layer
// 3 attn_q 0.16, attn_k, attn_v and attn_output 0.12. With Q4_0 the sums are within a tenth of
// that.
//
// The one attention layer of a model that small has little to remember. NVIDIA's recipes for large
// members keep attention in BF16 where the rest has 8 or 4 bits, so here it counts as much as the
// most sensitive layers. Experts and latent projections, which the demo lacks, count like an MLP.
double default_sensitivity(TensorRole role) {
    switch (role) {
        case TensorRole::token_embedding:
            return 3.0;
        case TensorRole::output:
            return 0.7;
        case TensorRole::ssm_in:
        case TensorRole::attn_q:
        case TensorRole::attn_k:
        case TensorRole::attn_v:
        case TensorRole::attn_output:
            return 0.45;
        case TensorRole::ssm_out:
            return 0.15;
        case TensorRole::ffn_down:
        case TensorRole::experts_down:
        case TensorRole::shared_down:
            return 0.07;
        default:
            return 0.2;
    }
}

// The first eighth of the layers, at least two: where the residual stream is still small.
constexpr double kFirstLayers = 5.0;
// Mamba layers before attention: layer 2 against layer 5 above; in BF16 too in those recipes.
constexpr double kFeedsAttention = 1.5;

int n_first_layers(std::span<const TensorSpec> specs) {
    int n_layers = 0;
    for (const TensorSpec& spec : specs) n_layers = std::max(n_layers, spec.layer + 1);
    return std::max(2, n_layers / 8);
}

bool is_attention(TensorRole role) {
    return role == TensorRole::attn_q || role == TensorRole::attn_k || role == TensorRole::attn_v ||
           role == TensorRole::attn_output;
}

}  // namespace

std::string_view tensor_class(std::string_view tensor_name) {
    constexpr std::string_view kSuffix = ".weight";
    if (tensor_name.ends_with(kSuffix)) tensor_name.remove_suffix(kSuffix.size());
    if (tensor_name.starts_with("blk.")) {
        const size_t dot = tensor_name.find('.', 4);
        if (dot != std::string_view::npos) tensor_name.remove_prefix(dot + 1);
    }
    return tensor_name;
}

std::vector<double> sensitivities(std::span<const TensorSpec> specs, const Importance* importance) {
    std::set<int> feeding;
    for (const TensorSpec& spec : specs)
        if (is_attention(spec.role)) feeding.insert(spec.layer - 1);
    const int n_first = n_first_layers(specs);
    std::vector<double> result;
    std::vector<std::optional<double>> measured;
    double measured_sum = 0;
    double default_sum = 0;
    for (const TensorSpec& spec : specs) {
        const bool feeds = feeding.contains(spec.layer) &&
                           (spec.role == TensorRole::ssm_in || spec.role == TensorRole::ssm_out);
        const bool first = spec.layer >= 0 && spec.layer < n_first;
        result.push_back(default_sensitivity(spec.role) * (feeds ? kFeedsAttention : 1.0) *
                         (first ? kFirstLayers : 1.0));
        measured.push_back(importance != nullptr ? importance->find_sensitivity(spec.name)
                                                 : std::nullopt);
        if (!measured.back()) continue;
        measured_sum += *measured.back();
        default_sum += result.back();
    }
    if (measured_sum <= 0) return result;
    for (size_t i = 0; i < result.size(); ++i)
        result[i] = measured[i].value_or(result[i] * measured_sum / default_sum);
    return result;
}

}  // namespace nemo
