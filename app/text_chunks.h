// A text cut into chunks of equal length, each read as a text of its own: what perplexity,
// importance and sensitivity are measured on. The rules are those of llama.cpp's tools, so that
// numbers compare.
#pragma once

#include "core/tokenizer.h"
#include "models/session.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace nemo {

inline constexpr int64_t kDefaultChunkTokens = 512;

struct TextChunks {
    std::vector<int32_t> tokens;  // [n_chunks * n_context]
    int64_t n_context = 0;        // tokens per chunk
    int64_t n_chunks = 0;

    // As the model is to read it: it begins with BOS, in the place of its first token, if texts do
    // for this model.
    std::vector<int32_t> chunk(int64_t index, const TokenizerData& vocabulary) const;
};

// A text file; "-" is standard input. `special`: control tokens in it are recognised.
struct TextFile {
    std::string path;
    bool special = false;
};
std::vector<int32_t> tokens_of_file(const TextFile& file, const Tokenizer& tokenizer);

// The first `n_chunks` of a file, or as many as there are; 0: all. Throws Error{usage} if the text
// is shorter than two chunks.
TextChunks read_chunks(const TextFile& file, int64_t n_context, int64_t n_chunks,
                       const Tokenizer& tokenizer);

// Lets a session of `model` read a chunk from its beginning, and hands out the predictions of the
// scored tokens (app/perplexity.h): sink(row, logits [n_vocab], next token). Throws
// Error{interrupted}.
using PredictionSink =
    std::function<void(int64_t row, std::span<const float> logits, int32_t next)>;
void predict_chunk(const Model& model, Session& session, std::span<const int32_t> chunk,
                   const PredictionSink& sink);

}  // namespace nemo
