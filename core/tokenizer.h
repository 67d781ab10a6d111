// Text to token ids and back, exactly as Hugging Face `tokenizers` and `sentencepiece` do it,
// except that text which is not trusted never yields a control token. A Tokenizer is immutable:
// threads may share it.
#pragma once

#include "core/marked_text.h"
#include "core/tokenizer_data.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct EncodeOptions {
    // Adds BOS/EOS if the tokenizer's own rules say so.
    bool add_special = true;
};

class AddedTokens;

class Tokenizer {
public:
    // Throws Error{bad_file} if the data contradict themselves; `source` names them in messages.
    static std::unique_ptr<Tokenizer> create(TokenizerData data, std::string_view source);
    virtual ~Tokenizer();

    // The text of all segments is one text (see marked_text.h). Invalid UTF-8 becomes U+FFFD first,
    // as Python's errors="replace" does. In text that is not trusted no control or unknown token is
    // recognised, nor a user-defined one that looks like markup: <...> or [...].
    // Throws Error{usage} for a text of 2 GiB or more, Error{bad_file} if the model's split pattern
    // needs more steps or memory than is sane.
    std::vector<int32_t> encode(const MarkedText& text, const EncodeOptions& options = {}) const;
    // `trusted`: control tokens in the text are recognised.
    std::vector<int32_t> encode(std::string_view text, bool trusted,
                                const EncodeOptions& options = {}) const;

    // The bytes a token stands for. Control, unknown and unused tokens give their text if
    // `special`, else nothing. The id must be in [0, n_vocab()).
    std::string token_bytes(int32_t id, bool special) const;
    // All bytes together, made valid UTF-8. SentencePiece's dummy prefix is removed.
    std::string decode(std::span<const int32_t> ids, bool special) const;

    const TokenizerData& data() const { return data_; }
    int32_t n_vocab() const { return static_cast<int32_t>(data_.tokens.size()); }
    bool is_end_of_generation(int32_t id) const;

protected:
    explicit Tokenizer(TokenizerData data);
    // Appends ids for valid UTF-8 in which no added token is to be recognised. `at_start`: the text
    // is the beginning of the input.
    virtual void encode_plain(std::string_view text, bool at_start,
                              std::vector<int32_t>& ids) const = 0;
    // The bytes of a token of type normal or byte, for SentencePiece also user-defined.
    virtual std::string normal_token_bytes(int32_t id) const = 0;

    TokenizerData data_;

private:
    std::unique_ptr<const AddedTokens> added_tokens_;
};

// Turns a stream of tokens into a stream of whole code points: bytes that start an unfinished code
// point are held back, invalid bytes become U+FFFD.
class StreamDecoder {
public:
    StreamDecoder(const Tokenizer& tokenizer, bool special)
        : tokenizer_(tokenizer), special_(special) {}
    // The text that became complete with this token; may be empty.
    std::string push(int32_t id);
    // What is left at the end, as U+FFFD.
    std::string finish();

private:
    const Tokenizer& tokenizer_;
    bool special_;
    std::string pending_;
};

}  // namespace nemo
