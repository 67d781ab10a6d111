// SentencePiece vocabularies (BPE by score, or unigram), encoded by the sentencepiece library.
#pragma once

#include "core/tokenizer.h"

namespace nemo {

// `data` is consistent (checked by Tokenizer::create). Throws Error{bad_file} if the vocabulary is
// none that the library can use safely.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(TokenizerData data,
                                                        std::string_view source);

}  // namespace nemo
