// Byte-level BPE, the tokenizer of GPT-2 and its descendants.
#pragma once

#include "core/tokenizer.h"
#include "core/tokenizer/token_index.h"

namespace nemo {

// `data` is consistent (checked by Tokenizer::create), and `ids` has all of its tokens. Throws
// Error{bad_file} if a merge names tokens that do not exist or a split pattern cannot be used.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerData data, TokenIndex ids,
                                              std::string_view source);

}  // namespace nemo
