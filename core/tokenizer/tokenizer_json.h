// Reads Hugging Face's tokenizer.json: byte-level BPE only.
#pragma once

#include "core/json.h"
#include "core/tokenizer_data.h"

#include <string_view>

namespace nemo {

// A member of added_tokens, or of tokenizer_config.json's added_tokens_decoder.
struct AddedTokenSpec {
    int32_t id;
    std::string content;
    bool is_special = false;
    AddedTokenRule rule;  // with this id
};

// The first token with this text; -1: there is none.
int32_t find_id(const TokenizerData& data, std::string_view token);

// `where` names the value in errors. `id` is used if the value has none of its own.
AddedTokenSpec read_added_token(const Json& value, std::string_view source, std::string_view where,
                                int64_t id);

// Gives the token its type and rule. An id beyond the vocabulary extends it; gaps become unused
// tokens. Throws Error{bad_file} if the id has another text already.
void apply_added_token(const AddedTokenSpec& spec, std::string_view source, std::string_view where,
                       TokenizerData& data);

// True if the file describes a SentencePiece model, which nemo reads from tokenizer.model instead.
bool describes_sentencepiece(const Json& tokenizer_json);

// Throws Error{bad_file} naming the field.
TokenizerData parse_tokenizer_json(const Json& tokenizer_json, std::string_view source);

}  // namespace nemo
