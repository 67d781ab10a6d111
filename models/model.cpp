#include "models/model.h"

#include "core/error.h"

namespace nemo {

namespace {

template <class... Bodies>
struct Overloaded : Bodies... {
    using Bodies::operator()...;
};
template <class... Bodies>
Overloaded(Bodies...) -> Overloaded<Bodies...>;

}  // namespace

Model::Model(std::shared_ptr<const ModelFile> file, Backend& backend,
             const TensorReplacements& replacements)
    : file_(std::move(file)), backend_(backend), config_(config_from_gguf(*file_)) {
    WeightBinder binder(*file_, config_, backend_, replacements);
    token_embedding_ = binder.take("token_embd.weight");
    output_norm_ = binder.take_norm("output_norm");
    output_ = config_.tied_embeddings ? token_embedding_ : binder.take("output.weight");
    for (size_t i = 0; i < config_.layers.size(); ++i) layers_.push_back(binder.take_layer(i));
}

const ModelFingerprint& Model::fingerprint() const {
    std::call_once(fingerprint_known_, [&] { fingerprint_ = file_->fingerprint(); });
    return fingerprint_;
}

void Model::run_layer(size_t layer, const LayerInput& in, SequenceState& state) const {
    const LayerConfig& shape = config_.layers[layer];
    std::visit(Overloaded{[&](const Mamba2Weights& weights) {
                              mamba2_layer(in, shape.mamba2, weights, state.conv_state(layer),
                                           state.ssm_state(layer), state.recurrent_offset(layer));
                          },
                          [&](const AttentionWeights& weights) {
                              attention_layer(in, shape.attention, weights, state.keys(layer),
                                              state.values(layer));
                          },
                          [&](const MlpWeights& weights) { mlp_layer(in, shape.n_ff, weights); },
                          [&](const MoeWeights& weights) { moe_layer(in, shape.moe, weights); }},
               layers_[layer].mixer);
}

void Model::run(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
                int64_t n_logits, float* logits, std::span<const StateCapture> captures,
                DraftInputs* inputs) const {
    const int64_t n_tokens = std::ssize(tokens);
    const int64_t n_embd = config_.n_embd;
    NEMO_ASSERT(n_tokens > 0 && n_logits >= 0 && n_logits <= n_tokens);
    state.reserve(state.position() + n_tokens);

    float* x = work.get(Scratch::hidden, n_tokens * n_embd);  // [T, E]
    backend_.embed(token_embedding_, tokens, x);
    for (size_t i = 0; i < layers_.size(); ++i) {
        run_layer(i,
                  {.backend = backend_,
                   .work = work,
                   .norm = layers_[i].norm,
                   .norm_kind = config_.norm,
                   .norm_eps = config_.norm_eps,
                   .n_embd = n_embd,
                   .x = x,
                   .n_tokens = n_tokens,
                   .position = state.position(),
                   .captures = captures,
                   .draft_rows = inputs == nullptr ? nullptr : inputs->rows(i)},
                  state);
    }
    if (n_logits > 0) {
        const float* last = x + (n_tokens - n_logits) * n_embd;
        float* h = work.get(Scratch::normed, n_logits * n_embd);
        apply_norm(backend_, config_.norm, output_norm_, config_.norm_eps, last, n_logits, n_embd,
                   h, {&output_});
        backend_.matmul(output_, h, n_logits, logits, Epilogue::store);
    }
    backend_.sync();
}

void Model::forward(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
                    int64_t n_logits, float* logits, std::span<const StateCapture> captures) const {
    run(tokens, state, work, n_logits, logits, captures, nullptr);
    state.advance(std::ssize(tokens));
}

void Model::look_at(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
                    float* logits, DraftInputs& inputs) const {
    NEMO_ASSERT(std::ssize(tokens) <= inputs.max_tokens());
    run(tokens, state, work, std::ssize(tokens), logits, {}, &inputs);
}

void Model::take_in(const DraftInputs& inputs, int64_t n_tokens, SequenceState& state,
                    Workspace& work) const {
    NEMO_ASSERT(n_tokens <= inputs.max_tokens());
    for (size_t i = 0; i < layers_.size(); ++i)
        if (const auto* weights = std::get_if<Mamba2Weights>(&layers_[i].mixer))
            mamba2_take_in(backend_, work, config_.layers[i].mamba2, *weights, inputs.rows(i),
                           n_tokens, state.conv_state(i), state.ssm_state(i));
    backend_.sync();
    state.advance(n_tokens);
}

}  // namespace nemo
