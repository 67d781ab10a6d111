// How much a model's predictions suffer from errors in each class of its tensors.
//
// For every class (ssm_in, ffn_down, ..., those of Mamba layers right before an attention layer
// apart) all its tensors are replaced by copies rounded to Q4_0, and the mean KL divergence of the
// predictions from the unchanged model's is measured. Small errors of independent tensors add up in
// the divergence, each in proportion to its square, so the class's sensitivity is
//   s = KL / sum over its tensors of e,   e = sum w (x - q)^2 / sum w x^2   (RelativeError),
// and a mix of types with errors e_t is predicted to have KL = sum over all tensors of s_t e_t.
#pragma once

#include "app/engine.h"
#include "app/text_chunks.h"
#include "quant/importance.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nemo {

struct ClassSensitivity {
    std::string name;                  // "ssm_in", "ssm_in before attention"
    std::vector<std::string> tensors;  // GGUF names; those that Q4_0 does not change are left out
    double relative_error = 0;         // summed over the tensors
    double divergence = 0;             // mean, nats per token

    double value() const { return divergence / relative_error; }
};

// (passes done, passes in all): a pass is one chunk read by one version of the model.
using SensitivityProgress = std::function<void(int64_t n_done, int64_t n_total)>;

// On the first `n_chunks` chunks. Besides the model it needs memory for the copies of the largest
// class, and for the predictions of the scored tokens: 4 bytes * n_vocab for each. Throws
// Error{interrupted}.
std::vector<ClassSensitivity> measure_sensitivity(const Engine& engine, const TextChunks& text,
                                                  int64_t n_chunks, const Importance& importance,
                                                  int n_threads,
                                                  const SensitivityProgress& on_progress);

}  // namespace nemo
