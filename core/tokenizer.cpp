#include "core/tokenizer.h"

#include "core/error.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/sentencepiece_tokenizer.h"
#include "core/tokenizer/token_index.h"
#include "core/tokenizer/tokenizer_added.h"
#include "core/utf8.h"

#include <algorithm>
#include <limits>

namespace nemo {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";
// Bounds the work that one position of a text can cost when added tokens are searched.
constexpr size_t kMaxAddedTokenBytes = 4096;
constexpr size_t kKeysAtOnce = 32;

void check_id(int32_t id, const char* name, size_t n_tokens, std::string_view source) {
    if (id < -1 || id >= static_cast<int64_t>(n_tokens)) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} id {} is not in the vocabulary of {} tokens",
             source, name, id, n_tokens);
    }
}

// The ids by spelling.
TokenIndex check_spellings(const TokenizerData& data, std::string_view source) {
    TokenIndex ids(data.tokens);
    std::vector<TokenIndex::Key> keys;
    for (size_t first = 0; first < data.tokens.size(); first += kKeysAtOnce) {
        const size_t end = std::min(first + kKeysAtOnce, data.tokens.size());
        keys.clear();
        for (size_t id = first; id < end; ++id) {
            keys.push_back(TokenIndex::key_of(data.tokens[id]));
            ids.fetch_slot(keys.back());
        }
        for (size_t id = first; id < end; ++id)
            if (const int32_t other = ids.insert(static_cast<int32_t>(id), keys[id - first]);
                other >= 0) {
                fail(ErrorCode::bad_file, "{}: tokenizer: tokens {} and {} are both '{}'", source,
                     other, id, data.tokens[id].substr(0, 100));
            }
    }
    return ids;
}

void check_tokens(const TokenizerData& data, std::string_view source) {
    for (size_t id = 0; id < data.tokens.size(); ++id) {
        const std::string& token = data.tokens[id];
        const auto type = static_cast<int32_t>(data.types[id]);
        if (type < static_cast<int32_t>(TokenType::normal) ||
            type > static_cast<int32_t>(TokenType::byte)) {
            fail(ErrorCode::bad_file, "{}: tokenizer: token {} has type {}, known are 1 to 6",
                 source, id, type);
        }
        if (token.empty() || !is_valid_utf8(token)) {
            fail(ErrorCode::bad_file, "{}: tokenizer: token {} is {}", source, id,
                 token.empty() ? "empty" : "not valid UTF-8");
        }
        if (data.types[id] != TokenType::normal && token.size() > kMaxAddedTokenBytes) {
            fail(ErrorCode::bad_file, "{}: tokenizer: added token {} has {} bytes, the limit is {}",
                 source, id, token.size(), kMaxAddedTokenBytes);
        }
    }
}

// What every kind of tokenizer relies on.
void check_data(const TokenizerData& data, std::string_view source) {
    const size_t n_tokens = data.tokens.size();
    if (n_tokens == 0 || n_tokens > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        fail(ErrorCode::bad_file, "{}: tokenizer: the vocabulary has {} tokens", source, n_tokens);
    }
    if (data.types.size() != n_tokens) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} token types for {} tokens", source,
             data.types.size(), n_tokens);
    }
    check_tokens(data, source);
    check_id(data.bos, "BOS", n_tokens, source);
    check_id(data.eos, "EOS", n_tokens, source);
    check_id(data.unknown, "unknown token", n_tokens, source);
    check_id(data.padding, "padding", n_tokens, source);
    for (const int32_t id : data.end_of_generation) {
        check_id(id, "end-of-generation", n_tokens, source);
    }
    for (const auto& [id, rule] : data.added_rules) {
        check_id(id, "added token", n_tokens, source);
    }
    if ((data.add_bos && data.bos < 0) || (data.add_eos && data.eos < 0)) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} is to be added but has no id", source,
             data.add_bos && data.bos < 0 ? "BOS" : "EOS");
    }
}

// All segments as one valid text, and where it is trusted.
std::string flatten(const MarkedText& marked, std::vector<ByteRange>& trusted) {
    std::string text;
    for (const TextSegment& segment : marked) {
        const size_t begin = text.size();
        text += is_valid_utf8(segment.text) ? segment.text : sanitize_utf8(segment.text);
        if (!segment.trusted || text.size() == begin) continue;
        if (!trusted.empty() && trusted.back().end == begin) {
            trusted.back().end = text.size();
        } else {
            trusted.push_back({begin, text.size()});
        }
    }
    return text;
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::create(TokenizerData data, std::string_view source) {
    check_data(data, source);
    TokenIndex ids = check_spellings(data, source);
    if (data.kind == TokenizerKind::byte_level_bpe)
        return make_bpe_tokenizer(std::move(data), std::move(ids), source);
    return make_sentencepiece_tokenizer(std::move(data), source);
}

Tokenizer::Tokenizer(TokenizerData data)
    : data_(std::move(data)), added_tokens_(std::make_unique<AddedTokens>(data_)) {}

Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(const MarkedText& marked,
                                       const EncodeOptions& options) const {
    std::vector<ByteRange> trusted;
    const std::string text = flatten(marked, trusted);
    if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        fail(ErrorCode::usage, "a text of {} bytes is too long to tokenize, the limit is {}",
             text.size(), std::numeric_limits<int32_t>::max());
    }
    std::vector<int32_t> ids;
    if (options.add_special && data_.add_bos) ids.push_back(data_.bos);
    for (const auto& [range, id] : added_tokens_->split(text, trusted)) {
        if (id >= 0) {
            ids.push_back(id);
        } else {
            const auto section =
                std::string_view(text).substr(range.begin, range.end - range.begin);
            encode_plain(section, range.begin == 0, ids);
        }
    }
    if (options.add_special && data_.add_eos) ids.push_back(data_.eos);
    return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool trusted,
                                       const EncodeOptions& options) const {
    return encode(MarkedText{{std::string(text), trusted}}, options);
}

std::string Tokenizer::token_bytes(int32_t id, bool special) const {
    NEMO_ASSERT(id >= 0 && id < n_vocab());
    const auto index = static_cast<size_t>(id);
    switch (data_.types[index]) {
        case TokenType::normal:
        case TokenType::byte:
            return normal_token_bytes(id);
        case TokenType::user_defined:
            return data_.kind == TokenizerKind::sentencepiece ? normal_token_bytes(id)
                                                              : data_.tokens[index];
        case TokenType::control:
        case TokenType::unknown:
        case TokenType::unused:
            break;
    }
    return special ? data_.tokens[index] : std::string();
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool special) const {
    std::string bytes;
    for (const int32_t id : ids) bytes += token_bytes(id, special);
    const bool has_prefix = data_.kind == TokenizerKind::sentencepiece && data_.add_space_prefix;
    if (has_prefix && bytes.starts_with(' ')) bytes.erase(0, 1);
    return sanitize_utf8(bytes);
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
    return std::find(data_.end_of_generation.begin(), data_.end_of_generation.end(), id) !=
           data_.end_of_generation.end();
}

std::string StreamDecoder::push(int32_t id) {
    pending_ += tokenizer_.token_bytes(id, special_);
    const size_t n_complete = pending_.size() - incomplete_utf8_tail(pending_);
    std::string text = sanitize_utf8(std::string_view(pending_).substr(0, n_complete));
    pending_.erase(0, n_complete);
    return text;
}

std::string StreamDecoder::finish() {
    const bool is_unfinished = !pending_.empty();
    pending_.clear();
    return is_unfinished ? std::string(kReplacementCharacter) : std::string();
}

}  // namespace nemo
