// A model ready to run: its configuration and its weights, bound to a backend. Immutable; any
// number of sequences may share it.
#pragma once

#include "core/model_file.h"
#include "kernels/backend.h"
#include "models/config.h"
#include "models/draft_inputs.h"
#include "models/layers.h"
#include "models/sequence_state.h"
#include "models/weight_binder.h"
#include "models/workspace.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace nemo {

class Model {
public:
    // The file is kept: weights are used in place. Throws Error{bad_file} naming a tensor that is
    // missing or has the wrong dims or type.
    // `replacements` are bound instead of the file's tensors of their names, which they must
    // match in dims; their data must outlive the model.
    Model(std::shared_ptr<const ModelFile> file, Backend& backend,
          const TensorReplacements& replacements = {});

    const ModelConfig& config() const { return config_; }
    const ModelFile& file() const { return *file_; }
    const std::shared_ptr<const ModelFile>& shared_file() const { return file_; }
    // The file's, looked up once: it reads from all over the file.
    const ModelFingerprint& fingerprint() const;
    Backend& backend() const { return backend_; }

    // Takes in a chunk of T tokens at the state's position and advances it. Writes logits for the
    // last `n_logits` tokens (0 to T) to `logits` [n_logits, n_vocab]. Ids must be in [0, n_vocab).
    // `captures`: ascending, each 1 to T tokens; they do not change the result.
    void forward(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
                 int64_t n_logits, float* logits,
                 std::span<const StateCapture> captures = {}) const;

    // The logits [T, n_vocab] that these tokens would lead to; the state stays as it is. `inputs`
    // remembers what the tokens, at most its max_tokens(), would do to it.
    void look_at(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
                 float* logits, DraftInputs& inputs) const;
    // Takes in the first n_tokens of what was looked at last, at this state.
    void take_in(const DraftInputs& inputs, int64_t n_tokens, SequenceState& state,
                 Workspace& work) const;

private:
    // forward() but for the advance; or look_at().
    void run(std::span<const int32_t> tokens, SequenceState& state, Workspace& work,
             int64_t n_logits, float* logits, std::span<const StateCapture> captures,
             DraftInputs* inputs) const;
    void run_layer(size_t layer, const LayerInput& in, SequenceState& state) const;

    std::shared_ptr<const ModelFile> file_;
    Backend& backend_;
    ModelConfig config_;
    Weight token_embedding_;
    NormWeights output_norm_;
    Weight output_;
    std::vector<LayerWeights> layers_;
    mutable std::once_flag fingerprint_known_;
    mutable ModelFingerprint fingerprint_;
};

}  // namespace nemo
