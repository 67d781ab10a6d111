// Byte-level BPE, the tokenizer of GPT-2 and its descendants.
#pragma once

#include "core/tokenizer.h"

namespace nemo {

// `data` is consistent (checked by Tokenizer::create). Throws Error{bad_file} if a merge names
// tokens that do not exist or a split pattern cannot be used.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerData data, std::string_view source);

}  // namespace nemo
