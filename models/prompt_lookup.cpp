#include "models/prompt_lookup.h"

#include <algorithm>
#include <utility>

namespace nemo {

namespace {

// FNV-1a over whole tokens; equal hashes are compared token by token.
uint64_t hash_of(std::span<const int32_t> tokens) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const int32_t token : tokens)
        hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3u;
    return hash;
}

}  // namespace

void PromptLookup::add(int32_t token) {
    tokens_.push_back(token);
    note_end(long_);
    note_end(short_);
}

void PromptLookup::note_end(Index& index) {
    index.before = 0;
    if (tokens_.size() < index.n_tokens) return;
    size_t& place = index.places[hash_of(std::span(tokens_).last(index.n_tokens))];
    if (place > 0 && matches(place, index.n_tokens)) index.before = place;
    place = tokens_.size();
}

bool PromptLookup::matches(size_t place, size_t n_tokens) const {
    const auto end = tokens_.begin() + static_cast<std::ptrdiff_t>(place);
    const auto n = static_cast<std::ptrdiff_t>(n_tokens);
    return std::equal(end - n, end, tokens_.end() - n);
}

std::vector<int32_t> PromptLookup::guess(int64_t n) const {
    std::vector<int32_t> tokens;
    const size_t place = long_.before > 0 ? long_.before : short_.before;
    if (place == 0) return tokens;
    for (size_t i = place; std::cmp_less(tokens.size(), n); ++i)
        tokens.push_back(i < tokens_.size() ? tokens_[i] : tokens[i - tokens_.size()]);
    return tokens;
}

}  // namespace nemo
