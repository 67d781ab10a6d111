// A vocabulary as plain data: what a tokenizer.json, a SentencePiece model or a GGUF file says,
// before anything is built from it. The converter writes it; Tokenizer is made from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace nemo {

class ModelFile;
class GgufMetadata;

// GGUF's values.
enum class TokenType : int32_t {
    normal = 1,
    unknown = 2,
    control = 3,       // recognised only in trusted text, never printed
    user_defined = 4,  // an added token that is ordinary text
    unused = 5,
    byte = 6,
};

enum class TokenizerKind { byte_level_bpe, sentencepiece };

// The split that NVIDIA's and Mistral's "tekken" tokenizers use.
extern const char* const kTekkenRegex;

// How Hugging Face matches one added token, for those that differ from the default of their type:
// control tokens are searched in the raw text first (normalized = false), others after them.
struct AddedTokenRule {
    int32_t id = -1;
    bool lstrip = false;       // takes the white space before it along
    bool rstrip = false;       // takes the white space after it along
    bool single_word = false;  // matches only where no word character touches it
    bool normalized = false;

    bool operator==(const AddedTokenRule&) const = default;
};

struct TokenizerData {
    TokenizerKind kind = TokenizerKind::byte_level_bpe;

    // Index = token id. BPE: normal tokens are spelled in the byte-level alphabet (space = U+0120),
    // all other types are raw text. SentencePiece: pieces with U+2581 for a space, bytes as <0xAB>.
    std::vector<std::string> tokens;
    std::vector<TokenType> types;     // one per token
    std::vector<std::string> merges;  // BPE: "left right", rank = index
    std::vector<float> scores;        // SentencePiece: one per token

    std::map<int32_t, AddedTokenRule> added_rules;  // BPE: by id

    // BPE: the pre-tokenizer's patterns as tokenizer.json spells them (Oniguruma's Ruby syntax),
    // each applied to every piece the one before it made.
    std::vector<std::string> split_regexes;
    bool ignore_merges =
        false;  // BPE: a whole pre-token that is in the vocabulary is emitted as is
    // A space before the text: SentencePiece's dummy prefix (at the start of the whole text only),
    // or ByteLevel's add_prefix_space (before every stretch of text that has no leading space).
    bool add_space_prefix = false;
    bool remove_extra_whitespaces = false;  // SentencePiece normalisation
    std::string precompiled_charsmap;       // SentencePiece normalisation table, usually empty
    bool unigram = false;                   // SentencePiece: a unigram model instead of BPE
    bool add_bos = false;
    bool add_eos = false;

    // -1: none.
    int32_t bos = -1;
    int32_t eos = -1;
    int32_t unknown = -1;
    int32_t padding = -1;

    // Every id that ends an answer: the union of what the configuration files or GGUF keys name.
    std::vector<int32_t> end_of_generation;

    std::string chat_template;  // Jinja source, empty if there is none
};

// Appends unused tokens [PAD0], [PAD1], ... until there are n_tokens, the rows of the embedding
// table.
void pad_vocabulary(TokenizerData& data, size_t n_tokens);

// Reads tokenizer.json, tokenizer.model, tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json (eos ids) and chat_template.jinja of an HF directory,
// whichever exist. tokenizer.json wins over tokenizer.model unless it describes a SentencePiece
// model. Throws Error{bad_file} if there is no tokenizer or it uses a feature nemo does not have.
TokenizerData tokenizer_from_hf(const std::filesystem::path& directory);

// From one file alone: a tokenizer.json or a SentencePiece .model.
TokenizerData tokenizer_from_tokenizer_json(const std::filesystem::path& file);
TokenizerData tokenizer_from_sentencepiece(const std::filesystem::path& file);

// Reads `tokenizer.*` keys. For architectures nemotron_h*, the true tekken split is used whatever
// `tokenizer.ggml.pre` says, since llama.cpp's converter names it by a hash that cannot tell.
TokenizerData tokenizer_from_gguf(const ModelFile& file);
TokenizerData tokenizer_from_gguf(const GgufMetadata& metadata);

// Adds the `tokenizer.*` keys, and `nemo.tokenizer.*` for what the standard keys cannot say.
void add_tokenizer_metadata(const TokenizerData& data, GgufMetadata& metadata);

}  // namespace nemo
