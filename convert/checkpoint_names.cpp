#include "convert/checkpoint_names.h"

#include "core/error.h"

#include <algorithm>
#include <iterator>

namespace nemo {

namespace {

using Pair = CheckpointNames::Pair;

// Tensors of layers follow "layers.{N}.", experts have their number behind "experts.".
constexpr Pair kNemotronH[] = {
    {"output_norm.weight", "norm_f.weight"},
    {"attn_norm.weight", "norm.weight"},
    {"ssm_in.weight", "mixer.in_proj.weight"},
    {"ssm_conv1d.weight", "mixer.conv1d.weight"},
    {"ssm_conv1d.bias", "mixer.conv1d.bias"},
    {"ssm_dt.bias", "mixer.dt_bias"},
    {"ssm_a", "mixer.A_log"},
    {"ssm_d", "mixer.D"},
    {"ssm_norm.weight", "mixer.norm.weight"},
    {"ssm_out.weight", "mixer.out_proj.weight"},
    {"attn_q.weight", "mixer.q_proj.weight"},
    {"attn_k.weight", "mixer.k_proj.weight"},
    {"attn_v.weight", "mixer.v_proj.weight"},
    {"attn_output.weight", "mixer.o_proj.weight"},
    {"ffn_up.weight", "mixer.up_proj.weight"},
    {"ffn_down.weight", "mixer.down_proj.weight"},
    {"ffn_gate_inp.weight", "mixer.gate.weight"},
    {"exp_probs_b.bias", "mixer.gate.e_score_correction_bias"},
    {"ffn_up_exps.weight", "mixer.experts.up_proj"},
    {"ffn_down_exps.weight", "mixer.experts.down_proj"},
    {"ffn_up_shexp.weight", "mixer.shared_experts.up_proj.weight"},
    {"ffn_down_shexp.weight", "mixer.shared_experts.down_proj.weight"},
    {"ffn_latent_down.weight", "mixer.fc1_latent_proj.weight"},
    {"ffn_latent_up.weight", "mixer.fc2_latent_proj.weight"},
};

constexpr Pair kNemotron[] = {
    {"output_norm.weight", "norm.weight"},
    {"output_norm.bias", "norm.bias"},
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_norm.bias", "input_layernorm.bias"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_norm.bias", "post_attention_layernorm.bias"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
};

// Of the prediction head, what is not named as in the layers; its attention is in its layer 0, its
// experts in layer 1.
constexpr Pair kPrediction[] = {
    {"nextn.enorm.weight", "layers.0.enorm.weight"},
    {"nextn.hnorm.weight", "layers.0.hnorm.weight"},
    {"nextn.eh_proj.weight", "layers.0.eh_proj.weight"},
    {"post_attention_norm.weight", "layers.1.norm.weight"},
    {"nextn.shared_head_norm.weight", "layers.1.final_layernorm.weight"},
};

struct Spelling {
    const char* prefix;
    const char* embedding;
    std::span<const Pair> pairs;
    bool norms_are_weight_plus_one = false;
};

// The first is the one that error messages speak of if the checkpoint has no embedding table.
constexpr Spelling kSpellings[] = {
    {"backbone.", "embeddings.weight", kNemotronH},
    {"backbone.", "embedding.weight", kNemotronH},
    {"model.", "embeddings.weight", kNemotronH},
    {"model.", "embedding.weight", kNemotronH},
    {"model.", "embed_tokens.weight", kNemotron, true},
};

// Multimodal checkpoints have the language model inside of another.
constexpr const char* kWrappers[] = {"", "language_model."};

// Of the prediction head: attention in 0, experts in 1.
int sublayer(std::string_view gguf) {
    return gguf.starts_with("attn_") ? 0 : 1;
}

}  // namespace

CheckpointNames::CheckpointNames(const SafetensorsSet& weights) {
    const auto use = [&](const std::string& wrapper, const Spelling& spelling) {
        pairs_ = spelling.pairs;
        norms_are_weight_plus_one_ = spelling.norms_are_weight_plus_one;
        prefix_ = wrapper + spelling.prefix;
        embedding_ = prefix_ + spelling.embedding;
        head_ = wrapper + "lm_head.weight";
        prediction_prefix_ = wrapper + "mtp.";
        return weights.find(embedding_) != nullptr;
    };
    const auto find = [&] {
        for (const char* wrapper : kWrappers)
            for (const Spelling& spelling : kSpellings)
                if (use(wrapper, spelling)) return true;
        return false;
    };
    if (!find()) use(kWrappers[0], kSpellings[0]);
    for (const SafetensorsFile& file : weights.files())
        for (const SafetensorsView& view : file.tensors())
            has_prediction_head_ = has_prediction_head_ || is_prediction(view.name);
}

std::string CheckpointNames::of(const TensorSpec& spec) const {
    if (spec.role == TensorRole::token_embedding) return embedding_;
    if (spec.role == TensorRole::output) return head_;
    std::string_view gguf = spec.name;
    std::string name = spec.is_prediction() ? prediction_prefix_ : prefix_;
    if (spec.block >= 0) {
        gguf.remove_prefix(fmt::formatted_size("blk.{}.", spec.block));
        const auto own = std::ranges::find(kPrediction, gguf, &Pair::gguf);
        if (spec.is_prediction() && own != std::end(kPrediction))
            return name + std::string(own->checkpoint);
        name += fmt::format("layers.{}.", spec.is_prediction() ? sublayer(gguf) : spec.block);
    }
    const auto pair = std::ranges::find(pairs_, gguf, &Pair::gguf);
    // A configuration of one architecture with the tensors of another: no such tensor.
    return name + std::string(pair == pairs_.end() ? gguf : pair->checkpoint);
}

std::string CheckpointNames::of_expert(const TensorSpec& spec, int64_t expert) const {
    const std::string stacked = of(spec);
    const size_t dot = stacked.rfind('.');
    return fmt::format("{}.{}{}.weight", stacked.substr(0, dot), expert, stacked.substr(dot));
}

}  // namespace nemo
