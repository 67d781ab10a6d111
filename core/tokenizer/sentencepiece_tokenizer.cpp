// The library gets a model that we serialize ourselves, after checking everything it trusts
// blindly: it walks the normalisation table without bounds checks and assumes finite scores.
#include "core/tokenizer/sentencepiece_tokenizer.h"

#include "core/error.h"
#include "core/tokenizer/piece_cache.h"
#include "core/tokenizer/sentencepiece_model.h"
#include "core/tokenizer/tokenizer_added.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nemo {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
constexpr size_t kNumBytes = 256;

// The byte a piece like <0x0A> stands for, or -1.
int byte_of_piece(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
    int value = 0;
    for (const char c : piece.substr(3, 2)) {
        const bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'A' || c > 'F')) return -1;
        value = value * 16 + (is_digit ? c - '0' : c - 'A' + 10);
    }
    return value;
}

// The table is: u32 size of a trie in bytes, the trie (u32 units of a double array), then the
// replacement strings, each ended by NUL. Following a unit xors its index with its offset and with
// one byte of text; a leaf's value is the position of a replacement.
void check_charsmap(std::string_view table, std::string_view source) {
    if (table.empty()) return;
    const auto read_u32 = [&](size_t offset) {
        uint32_t value = 0;
        std::memcpy(&value, table.data() + offset, sizeof value);
        return value;
    };
    const auto refuse = [&](const char* what, size_t value, size_t limit) {
        fail(ErrorCode::bad_file, "{}: tokenizer: precompiled_charsmap: {} {}, the limit is {}",
             source, what, value, limit);
    };
    if (table.size() < sizeof(uint32_t)) refuse("has bytes:", table.size(), sizeof(uint32_t));
    const size_t n_trie_bytes = read_u32(0);
    const size_t n_rest = table.size() - sizeof(uint32_t);
    if (n_trie_bytes >= n_rest || n_trie_bytes % sizeof(uint32_t) != 0 || n_trie_bytes < 1024) {
        refuse("trie size", n_trie_bytes, n_rest);
    }
    if (table.back() != '\0') refuse("last byte", static_cast<uint8_t>(table.back()), 0);
    const size_t n_units = n_trie_bytes / sizeof(uint32_t);
    const size_t n_replacement_bytes = n_rest - n_trie_bytes;
    for (size_t i = 0; i < n_units; ++i) {
        const uint32_t unit = read_u32(sizeof(uint32_t) * (i + 1));
        if ((unit & 0x8000'0000u) != 0) {
            const size_t value = unit & 0x7FFF'FFFFu;
            if (value >= n_replacement_bytes) refuse("replacement", value, n_replacement_bytes);
            continue;
        }
        const size_t offset = size_t{unit >> 10} << ((unit & 0x200u) >> 6);
        if (((i ^ offset) | 0xFF) >= n_units) refuse("trie offset", i ^ offset, n_units);
    }
}

void check_pieces(const TokenizerData& data, std::string_view source) {
    if (data.scores.size() != data.tokens.size()) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} scores for {} tokens", source,
             data.scores.size(), data.tokens.size());
    }
    size_t n_bytes = 0;
    size_t n_unknown = 0;
    for (size_t id = 0; id < data.tokens.size(); ++id) {
        if (!std::isfinite(data.scores[id])) {
            fail(ErrorCode::bad_file, "{}: tokenizer: the score of token {} is {}", source, id,
                 data.scores[id]);
        }
        if (data.tokens[id].find('\0') != std::string::npos) {
            fail(ErrorCode::bad_file, "{}: tokenizer: token {} contains a NUL byte", source, id);
        }
        if (data.types[id] == TokenType::byte) {
            if (byte_of_piece(data.tokens[id]) < 0) {
                fail(ErrorCode::bad_file, "{}: tokenizer: token {} '{}' is no byte like <0x0A>",
                     source, id, data.tokens[id].substr(0, 100));
            }
            ++n_bytes;
        }
        if (data.types[id] == TokenType::unknown) ++n_unknown;
    }
    if (n_bytes != 0 && n_bytes != kNumBytes) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} byte tokens, {} are needed", source, n_bytes,
             kNumBytes);
    }
    if (n_unknown != 1) {
        fail(ErrorCode::bad_file, "{}: tokenizer: {} tokens of type unknown, 1 is needed", source,
             n_unknown);
    }
}

std::unique_ptr<sentencepiece::SentencePieceProcessor> load(const TokenizerData& data,
                                                            bool dummy_prefix,
                                                            std::string_view source) {
    auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
    std::string problem;
    try {
        const auto status =
            processor->LoadFromSerializedProto(sentencepiece_model(data, dummy_prefix));
        if (!status.ok()) problem = status.ToString();
    } catch (const std::exception& error) {
        problem = error.what();
    }
    if (!problem.empty()) {
        fail(ErrorCode::bad_file, "{}: tokenizer: the sentencepiece library refuses it: {}", source,
             problem);
    }
    return processor;
}

// True if a text may be cut before every space that follows something else, and its parts encoded
// on their own: BPE joins only what is a piece, so it is enough that no piece crosses such a place
// and that the normalisation does not look across it either. Unigram scores are sums of floats
// whose rounding depends on what came before, so those texts stay whole.
bool words_are_independent(const TokenizerData& data) {
    if (data.unigram || data.remove_extra_whitespaces || !data.precompiled_charsmap.empty()) {
        return false;
    }
    bool has_space = false;
    for (const std::string& token : data.tokens) {
        has_space = has_space || token == kSpaceSymbol;
        // The last space symbol must belong to the leading run.
        const size_t last = token.rfind(kSpaceSymbol);
        for (size_t i = 0; last != std::string::npos && i < last; i += kSpaceSymbol.size()) {
            if (token.compare(i, kSpaceSymbol.size(), kSpaceSymbol) != 0) return false;
        }
    }
    return has_space;
}

// The end of the word that starts at `begin`: before the next space that follows something else.
size_t end_of_word(std::string_view text, size_t begin) {
    for (size_t i = begin + 1; i < text.size(); ++i) {
        if (text[i] != ' ' || text[i - 1] == ' ') continue;
        if (!text.substr(begin, i - begin).ends_with(kSpaceSymbol)) return i;
    }
    return text.size();
}

class SentencePieceTokenizer final : public Tokenizer {
public:
    SentencePieceTokenizer(TokenizerData data, std::string_view source)
        : Tokenizer(std::move(data)) {
        check_pieces(data_, source);
        check_charsmap(data_.precompiled_charsmap, source);
        has_independent_words_ = words_are_independent(data_);
        plain_ = load(data_, false, source);
        if (data_.add_space_prefix && !has_independent_words_) {
            prefixed_ = load(data_, true, source);
        }
    }

private:
    void encode_plain(std::string_view text, bool at_start,
                      std::vector<int32_t>& ids) const override {
        if (!has_independent_words_) {
            append(at_start && prefixed_ ? *prefixed_ : *plain_, text, ids);
            return;
        }
        std::string prefixed;
        if (at_start && data_.add_space_prefix) {
            prefixed = ' ' + std::string(text);
            text = prefixed;
        }
        PieceCache cache(text.size());
        std::vector<int32_t> word_ids;
        for (size_t begin = 0; begin < text.size();) {
            const size_t end = end_of_word(text, begin);
            const std::string_view word = text.substr(begin, end - begin);
            begin = end;
            if (cache.find(word, ids)) continue;
            word_ids.clear();
            append(*plain_, word, word_ids);
            ids.insert(ids.end(), word_ids.begin(), word_ids.end());
            cache.store(word, word_ids);
        }
    }

    static void append(const sentencepiece::SentencePieceProcessor& processor,
                       std::string_view text, std::vector<int32_t>& ids) {
        std::vector<int> pieces;
        const auto status = processor.Encode(absl::string_view(text.data(), text.size()), &pieces);
        if (!status.ok()) {
            fail(ErrorCode::runtime, "sentencepiece cannot encode a text of {} bytes: {}",
                 text.size(), status.ToString());
        }
        ids.insert(ids.end(), pieces.begin(), pieces.end());
    }

    std::string normal_token_bytes(int32_t id) const override {
        const std::string& piece = data_.tokens[static_cast<size_t>(id)];
        if (data_.types[static_cast<size_t>(id)] == TokenType::byte) {
            return std::string(1, static_cast<char>(byte_of_piece(piece)));
        }
        std::string bytes;
        for (size_t offset = 0; offset < piece.size();) {
            const size_t space = std::min(piece.find(kSpaceSymbol, offset), piece.size());
            bytes.append(piece, offset, space - offset);
            if (space == piece.size()) break;
            bytes += ' ';
            offset = space + kSpaceSymbol.size();
        }
        return bytes;
    }

    // Words are then encoded one by one and cached; the library is slow on long texts.
    bool has_independent_words_ = false;
    // The dummy prefix belongs to the start of the whole text only, but the library puts it before
    // every text it gets: so there is one processor that does and one that does not.
    std::unique_ptr<sentencepiece::SentencePieceProcessor> plain_;
    std::unique_ptr<sentencepiece::SentencePieceProcessor> prefixed_;  // null: not needed
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(TokenizerData data,
                                                        std::string_view source) {
    return std::make_unique<SentencePieceTokenizer>(std::move(data), source);
}

}  // namespace nemo
