// Text is cut into pre-tokens by regular expressions; each pre-token's bytes become symbols, which
// are merged by rank. Tokens that need trust are no part of this vocabulary: no spelling reaches
// them.
#include "core/tokenizer/bpe_tokenizer.h"

#include "core/error.h"
#include "core/tokenizer/bpe_alphabet.h"
#include "core/tokenizer/bpe_merges.h"
#include "core/tokenizer/bpe_splitter.h"
#include "core/tokenizer/piece_cache.h"
#include "core/tokenizer/token_index.h"
#include "core/tokenizer/tokenizer_added.h"

#include <array>

namespace nemo {
namespace {

class BpeTokenizer final : public Tokenizer {
public:
    BpeTokenizer(TokenizerData data, std::string_view source);

private:
    void encode_plain(std::string_view text, bool at_start,
                      std::vector<int32_t>& ids) const override;
    std::string normal_token_bytes(int32_t id) const override;

    void read_vocabulary();
    void read_merges(std::string_view source);
    std::vector<std::string_view> split(std::string_view text) const;
    // Replaces `symbols` by the ids of one pre-token.
    void encode_piece(std::string_view piece, std::vector<int32_t>& symbols,
                      BpeWorkspace& workspace) const;

    std::vector<RegexSplitter> splitters_;
    std::vector<std::string> bytes_;  // by id; what a normal token stands for
    // By bytes_. Only tokens that text may become without trust.
    std::optional<TokenIndex> ids_;
    std::array<int32_t, 256> byte_ids_;  // -1: dropped from the text
    BpeMerges merges_;
};

BpeTokenizer::BpeTokenizer(TokenizerData data, std::string_view source)
    : Tokenizer(std::move(data)), merges_(data_.merges.size()) {
    for (const std::string& regex : data_.split_regexes) splitters_.emplace_back(regex, source);
    read_vocabulary();
    read_merges(source);
}

void BpeTokenizer::read_vocabulary() {
    const size_t n = data_.tokens.size();
    bytes_.resize(n);
    std::vector<bool> is_reachable(n);
    for (size_t i = 0; i < n; ++i) {
        const auto id = static_cast<int32_t>(i);
        const std::optional<std::string> bytes = bytes_from_alphabet(data_.tokens[i]);
        // A token that is not spelled in the alphabet prints as it is, but no text becomes it.
        bytes_[i] = bytes ? *bytes : data_.tokens[i];
        is_reachable[i] = bytes && !needs_trust(data_, id);
    }
    ids_.emplace(bytes_);
    for (size_t i = 0; i < n; ++i)
        if (is_reachable[i]) ids_->insert(static_cast<int32_t>(i));
    const bool has_unknown =
        data_.unknown >= 0 && data_.types[static_cast<size_t>(data_.unknown)] == TokenType::unknown;
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
        const char c = static_cast<char>(byte);
        const int32_t found = ids_->find(std::string_view(&c, 1));
        byte_ids_[byte] = found >= 0 ? found : has_unknown ? data_.unknown : -1;
    }
}

void BpeTokenizer::read_merges(std::string_view source) {
    TokenIndex ids_by_spelling(data_.tokens);
    for (size_t i = 0; i < data_.tokens.size(); ++i)
        ids_by_spelling.insert(static_cast<int32_t>(i));
    std::string joined;
    for (size_t rank = 0; rank < data_.merges.size(); ++rank) {
        const std::string_view merge = data_.merges[rank];
        const size_t space = merge.find(' ', 1);
        if (space == std::string_view::npos || space + 1 == merge.size()) {
            fail(ErrorCode::bad_file, "{}: tokenizer: merge {} '{}' is not two tokens", source,
                 rank, merge.substr(0, 100));
        }
        const std::string_view left = merge.substr(0, space);
        const std::string_view right = merge.substr(space + 1);
        joined.assign(left).append(right);
        const auto id_of = [&](std::string_view token) {
            const int32_t found = ids_by_spelling.find(token);
            if (found < 0) {
                fail(ErrorCode::bad_file,
                     "{}: tokenizer: merge {} '{}' needs the token '{}', which does not exist",
                     source, rank, merge.substr(0, 100), token.substr(0, 100));
            }
            return found;
        };
        const int32_t result = id_of(joined);
        const int32_t left_id = id_of(left);
        const int32_t right_id = id_of(right);
        if (needs_trust(data_, result)) continue;
        merges_.insert(left_id, right_id, static_cast<uint32_t>(rank), result);
    }
}

std::vector<std::string_view> BpeTokenizer::split(std::string_view text) const {
    std::vector<std::string_view> pieces = {text};
    for (const RegexSplitter& splitter : splitters_) {
        std::vector<std::string_view> finer;
        for (const std::string_view piece : pieces) splitter.split(piece, finer);
        pieces = std::move(finer);
    }
    return pieces;
}

void BpeTokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& symbols,
                                BpeWorkspace& workspace) const {
    symbols.clear();
    if (data_.ignore_merges) {
        if (const int32_t whole = ids_->find(piece); whole >= 0) {
            symbols.push_back(whole);
            return;
        }
    }
    for (const char c : piece) {
        const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
        if (id >= 0) symbols.push_back(id);
    }
    merges_.apply(symbols, workspace);
}

void BpeTokenizer::encode_plain(std::string_view text, bool, std::vector<int32_t>& ids) const {
    std::string prefixed;
    if (data_.add_space_prefix && !text.starts_with(' ')) {
        prefixed = ' ' + std::string(text);
        text = prefixed;
    }
    PieceCache cache(text.size());
    BpeWorkspace workspace;
    std::vector<int32_t> symbols;
    for (const std::string_view piece : split(text)) {
        if (cache.find(piece, ids)) continue;
        encode_piece(piece, symbols, workspace);
        ids.insert(ids.end(), symbols.begin(), symbols.end());
        cache.store(piece, symbols);
    }
}

std::string BpeTokenizer::normal_token_bytes(int32_t id) const {
    return bytes_[static_cast<size_t>(id)];
}

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerData data, std::string_view source) {
    return std::make_unique<BpeTokenizer>(std::move(data), source);
}

}  // namespace nemo
