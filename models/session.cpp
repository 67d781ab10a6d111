#include "models/session.h"

#include "core/error.h"

#include <algorithm>

namespace nemo {

namespace {

// For files that do not say how long a text the model was trained on.
constexpr int64_t kDefaultContext = 131072;

}  // namespace

Session::Session(const Model& model, const SessionOptions& options)
    : model_(model),
      n_context_(options.n_context > 0 ? options.n_context : model.config().n_context),
      chunk_(options.chunk),
      work_(model.backend()),
      state_(model.config(), model.backend(), options.kv_types) {
    NEMO_ASSERT(chunk_ > 0);
    if (n_context_ <= 0) n_context_ = kDefaultContext;
}

void Session::reset() {
    state_.reset();
    tokens_.clear();
}

void Session::check_tokens(std::span<const int32_t> tokens) const {
    const int64_t n_vocab = model_.config().n_vocab;
    for (const int32_t token : tokens)
        if (token < 0 || token >= n_vocab)
            fail(ErrorCode::usage, "token id {} is outside the vocabulary of {} tokens", token,
                 n_vocab);
    const int64_t n_total = state_.position() + std::ssize(tokens);
    if (n_total > n_context_)
        fail(ErrorCode::context_full, "{} tokens do not fit into the context of {}", n_total,
             n_context_);
}

void Session::run_chunk(std::span<const int32_t> chunk, int64_t n_logits) {
    logits_.resize(static_cast<size_t>(n_logits * model_.config().n_vocab));
    model_.forward(chunk, state_, work_, n_logits, logits_.data());
    tokens_.insert(tokens_.end(), chunk.begin(), chunk.end());
}

std::span<const float> Session::append(std::span<const int32_t> tokens,
                                       const Cancelled& cancelled) {
    check_tokens(tokens);
    for (size_t start = 0; start < tokens.size(); start += static_cast<size_t>(chunk_)) {
        if (cancelled && cancelled()) return {};
        const auto chunk =
            tokens.subspan(start, std::min(static_cast<size_t>(chunk_), tokens.size() - start));
        const bool last = start + chunk.size() == tokens.size();
        run_chunk(chunk, last ? 1 : 0);
    }
    return logits_;
}

void Session::append_with_logits(std::span<const int32_t> tokens, const LogitsSink& sink) {
    check_tokens(tokens);
    for (size_t start = 0; start < tokens.size(); start += static_cast<size_t>(chunk_)) {
        const auto chunk =
            tokens.subspan(start, std::min(static_cast<size_t>(chunk_), tokens.size() - start));
        run_chunk(chunk, std::ssize(chunk));
        sink(logits_);
    }
}

}  // namespace nemo
