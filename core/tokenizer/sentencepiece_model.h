// The serialized SentencePiece model (the protobuf message ModelProto of a tokenizer.model file),
// read into and written from TokenizerData. Only the fields that decide about tokens are kept.
#pragma once

#include "core/tokenizer_data.h"

#include <string>
#include <string_view>

namespace nemo {

// Throws Error{bad_file} if the message is malformed or uses a feature nemo does not have.
TokenizerData parse_sentencepiece_model(std::string_view proto, std::string_view source);

// A message that the sentencepiece library loads. `dummy_prefix`: whether the library is to put a
// space before every text. Pieces that need trust become control pieces, which it finds in no text.
std::string sentencepiece_model(const TokenizerData& data, bool dummy_prefix);

}  // namespace nemo
