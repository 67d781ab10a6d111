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

#include <algorithm>
#include <array>

namespace nemo {
namespace {

class BpeTokenizer final : public Tokenizer {
public:
    BpeTokenizer(TokenizerData data, TokenIndex ids, std::string_view source);

private:
    void encode_plain(std::string_view text, bool at_start,
                      std::vector<int32_t>& ids) const override;
    std::string normal_token_bytes(int32_t id) const override;

    void find_byte_ids();
    struct Merge;
    void find_ids(Merge& merge, size_t rank, std::string_view source) const;
    void read_merges(std::string_view source);
    // The token that these bytes of a text are if nothing has to be merged, -1: none.
    int32_t find_text(std::string_view bytes) const;
    std::vector<std::string_view> split(std::string_view text) const;
    // Replaces `symbols` by the ids of one pre-token.
    void encode_piece(std::string_view piece, std::vector<int32_t>& symbols,
                      BpeWorkspace& workspace) const;

    std::vector<RegexSplitter> splitters_;
    TokenIndex ids_;                     // by spelling
    std::array<int32_t, 256> byte_ids_;  // -1: dropped from the text
    BpeMerges merges_;
};

BpeTokenizer::BpeTokenizer(TokenizerData data, TokenIndex ids, std::string_view source)
    : Tokenizer(std::move(data)), ids_(std::move(ids)), merges_(data_.merges.size()) {
    for (const std::string& regex : data_.split_regexes) splitters_.emplace_back(regex, source);
    find_byte_ids();
    read_merges(source);
}

int32_t BpeTokenizer::find_text(std::string_view bytes) const {
    const int32_t id = ids_.find(alphabet_from_bytes(bytes));
    return id >= 0 && !needs_trust(data_, id) ? id : -1;
}

void BpeTokenizer::find_byte_ids() {
    const bool has_unknown =
        data_.unknown >= 0 && data_.types[static_cast<size_t>(data_.unknown)] == TokenType::unknown;
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
        const char c = static_cast<char>(byte);
        const int32_t found = find_text(std::string_view(&c, 1));
        byte_ids_[byte] = found >= 0 ? found : has_unknown ? data_.unknown : -1;
    }
}

// A line "left right" of the merges.
struct BpeTokenizer::Merge {
    void parse(std::string_view line, size_t rank, std::string_view source) {
        const size_t space = line.find(' ', 1);
        if (space == std::string_view::npos || space + 1 == line.size()) {
            fail(ErrorCode::bad_file, "{}: tokenizer: merge {} '{}' is not two tokens", source,
                 rank, line.substr(0, 100));
        }
        joined.assign(line.substr(0, space)).append(line.substr(space + 1));
        keys = {TokenIndex::key_of(line.substr(0, space)),
                TokenIndex::key_of(line.substr(space + 1)), TokenIndex::key_of(joined)};
    }

    std::string joined;
    std::array<TokenIndex::Key, 3> keys;  // left, right, joined
    std::array<int32_t, 3> ids;
};

void BpeTokenizer::find_ids(Merge& merge, size_t rank, std::string_view source) const {
    for (size_t i = 0; i < merge.keys.size(); ++i) {
        merge.ids[i] = ids_.find(merge.keys[i]);
        if (merge.ids[i] >= 0) continue;
        fail(ErrorCode::bad_file,
             "{}: tokenizer: merge {} '{}' needs the token '{}', which does not exist", source,
             rank, std::string_view(data_.merges[rank]).substr(0, 100),
             merge.keys[i].spelling.substr(0, 100));
    }
    merges_.fetch_slot(merge.ids[0], merge.ids[1]);
}

// Several at once, since the tables are larger than the caches: each waits for memory only once.
void BpeTokenizer::read_merges(std::string_view source) {
    constexpr size_t kAtOnce = 32;
    std::vector<Merge> batch(kAtOnce);
    for (size_t first = 0; first < data_.merges.size(); first += kAtOnce) {
        const size_t n = std::min(kAtOnce, data_.merges.size() - first);
        for (size_t i = 0; i < n; ++i) {
            batch[i].parse(data_.merges[first + i], first + i, source);
            for (const TokenIndex::Key& key : batch[i].keys) ids_.fetch_slot(key);
        }
        for (size_t i = 0; i < n; ++i)
            for (const TokenIndex::Key& key : batch[i].keys) ids_.fetch_spelling(key);
        for (size_t i = 0; i < n; ++i) find_ids(batch[i], first + i, source);
        for (size_t i = 0; i < n; ++i) {
            const auto& [left, right, result] = batch[i].ids;
            if (!needs_trust(data_, result))
                merges_.insert(left, right, static_cast<uint32_t>(first + i), result);
        }
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
        if (const int32_t whole = find_text(piece); whole >= 0) {
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
    const std::string& token = data_.tokens[static_cast<size_t>(id)];
    // A token that is not spelled in the alphabet prints as it is, but no text becomes it.
    return bytes_from_alphabet(token).value_or(token);
}

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerData data, TokenIndex ids,
                                              std::string_view source) {
    return std::make_unique<BpeTokenizer>(std::move(data), std::move(ids), source);
}

}  // namespace nemo
