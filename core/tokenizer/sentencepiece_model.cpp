#include "core/tokenizer/sentencepiece_model.h"

#include "core/error.h"
#include "core/tokenizer/tokenizer_added.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace nemo {
namespace {

// Field numbers of sentencepiece_model.proto.
namespace model_field {
constexpr uint32_t kPieces = 1;
constexpr uint32_t kTrainerSpec = 2;
constexpr uint32_t kNormalizerSpec = 3;
}  // namespace model_field
namespace piece_field {
constexpr uint32_t kPiece = 1;
constexpr uint32_t kScore = 2;
constexpr uint32_t kType = 3;
}  // namespace piece_field
namespace trainer_field {
constexpr uint32_t kModelType = 3;
constexpr uint32_t kVocabSize = 4;
constexpr uint32_t kTreatWhitespaceAsSuffix = 24;
constexpr uint32_t kByteFallback = 35;
}  // namespace trainer_field
namespace normalizer_field {
constexpr uint32_t kName = 1;
constexpr uint32_t kPrecompiledCharsmap = 2;
constexpr uint32_t kAddDummyPrefix = 3;
constexpr uint32_t kRemoveExtraWhitespaces = 4;
constexpr uint32_t kEscapeWhitespaces = 5;
}  // namespace normalizer_field

constexpr uint64_t kModelTypeUnigram = 1;
constexpr uint64_t kModelTypeBpe = 2;

// Protobuf's wire types.
enum class WireType : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
    uint32_t number = 0;
    WireType type = WireType::varint;
    uint64_t integer = 0;    // varint and fixed
    std::string_view bytes;  // length-delimited
};

class ProtoReader {
public:
    ProtoReader(std::string_view data, std::string_view source) : data_(data), source_(source) {}

    bool next(Field& field) {
        if (offset_ == data_.size()) return false;
        const uint64_t tag = read_varint();
        field.number = static_cast<uint32_t>(tag >> 3);
        field.type = static_cast<WireType>(tag & 7);
        switch (field.type) {
            case WireType::varint:
                field.integer = read_varint();
                return true;
            case WireType::fixed64:
                field.integer = read_fixed(8);
                return true;
            case WireType::fixed32:
                field.integer = read_fixed(4);
                return true;
            case WireType::bytes:
                field.bytes = read_bytes(read_varint());
                return true;
        }
        malformed();
    }

private:
    [[noreturn]] void malformed() const {
        fail(ErrorCode::bad_file, "{}: not a SentencePiece model: malformed field at byte {} of {}",
             source_, offset_, data_.size());
    }
    std::string_view read_bytes(uint64_t n) {
        if (n > data_.size() - offset_) malformed();
        const std::string_view bytes = data_.substr(offset_, static_cast<size_t>(n));
        offset_ += static_cast<size_t>(n);
        return bytes;
    }
    uint64_t read_fixed(size_t n_bytes) {
        const std::string_view bytes = read_bytes(n_bytes);
        uint64_t value = 0;
        for (size_t i = 0; i < n_bytes; ++i) {
            value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
        }
        return value;
    }
    uint64_t read_varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const auto byte = static_cast<uint8_t>(read_bytes(1)[0]);
            value |= uint64_t{byte & 0x7Fu} << shift;
            if (byte < 0x80) return value;
        }
        malformed();
    }

    std::string_view data_;
    std::string_view source_;
    size_t offset_ = 0;
};

void read_piece(std::string_view proto, std::string_view source, TokenizerData& data) {
    ProtoReader reader(proto, source);
    std::string text;
    float score = 0;
    auto type = static_cast<uint64_t>(TokenType::normal);
    for (Field field; reader.next(field);) {
        if (field.number == piece_field::kPiece) text = field.bytes;
        if (field.number == piece_field::kScore) {
            score = std::bit_cast<float>(static_cast<uint32_t>(field.integer));
        }
        if (field.number == piece_field::kType) type = field.integer;
    }
    if (type < 1 || type > 6) {
        fail(ErrorCode::bad_file, "{}: SentencePiece piece {} has type {}, known are 1 to 6",
             source, data.tokens.size(), type);
    }
    data.tokens.push_back(std::move(text));
    data.scores.push_back(score);
    data.types.push_back(static_cast<TokenType>(type));
}

void read_trainer_spec(std::string_view proto, std::string_view source, TokenizerData& data) {
    ProtoReader reader(proto, source);
    uint64_t model_type = kModelTypeUnigram;
    for (Field field; reader.next(field);) {
        if (field.number == trainer_field::kModelType) model_type = field.integer;
        if (field.number == trainer_field::kTreatWhitespaceAsSuffix && field.integer != 0) {
            fail(ErrorCode::bad_file,
                 "{}: SentencePiece treat_whitespace_as_suffix is not supported", source);
        }
    }
    if (model_type != kModelTypeUnigram && model_type != kModelTypeBpe) {
        fail(ErrorCode::bad_file,
             "{}: SentencePiece model_type {} is not supported (1 unigram and 2 BPE are)", source,
             model_type);
    }
    data.unigram = model_type == kModelTypeUnigram;
}

void read_normalizer_spec(std::string_view proto, std::string_view source, TokenizerData& data) {
    ProtoReader reader(proto, source);
    for (Field field; reader.next(field);) {
        switch (field.number) {
            case normalizer_field::kPrecompiledCharsmap:
                data.precompiled_charsmap = field.bytes;
                break;
            case normalizer_field::kAddDummyPrefix:
                data.add_space_prefix = field.integer != 0;
                break;
            case normalizer_field::kRemoveExtraWhitespaces:
                data.remove_extra_whitespaces = field.integer != 0;
                break;
            case normalizer_field::kEscapeWhitespaces:
                if (field.integer != 0) break;
                fail(ErrorCode::bad_file,
                     "{}: SentencePiece escape_whitespaces = false is not supported", source);
            default:
                break;
        }
    }
}

int32_t find_token(const TokenizerData& data, std::string_view text, TokenType type) {
    for (size_t id = 0; id < data.tokens.size(); ++id) {
        if (data.types[id] == type && data.tokens[id] == text) return static_cast<int32_t>(id);
    }
    return -1;
}

class ProtoWriter {
public:
    void add_integer(uint32_t field, uint64_t value) {
        add_tag(field, WireType::varint);
        add_varint(value);
    }
    void add_float(uint32_t field, float value) {
        add_tag(field, WireType::fixed32);
        const auto bits = std::bit_cast<uint32_t>(value);
        for (int shift = 0; shift < 32; shift += 8)
            data_ += static_cast<char>(bits >> shift & 0xFF);
    }
    void add_bytes(uint32_t field, std::string_view bytes) {
        add_tag(field, WireType::bytes);
        add_varint(bytes.size());
        data_ += bytes;
    }
    const std::string& data() const { return data_; }

private:
    void add_tag(uint32_t field, WireType type) {
        add_varint(uint64_t{field} << 3 | static_cast<uint32_t>(type));
    }
    void add_varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) data_ += static_cast<char>((value & 0x7F) | 0x80);
        data_ += static_cast<char>(value);
    }

    std::string data_;
};

}  // namespace

TokenizerData parse_sentencepiece_model(std::string_view proto, std::string_view source) {
    TokenizerData data;
    data.kind = TokenizerKind::sentencepiece;
    // The defaults of the .proto file.
    data.unigram = true;
    data.add_space_prefix = true;
    data.remove_extra_whitespaces = true;
    ProtoReader reader(proto, source);
    for (Field field; reader.next(field);) {
        if (field.type != WireType::bytes) continue;
        if (field.number == model_field::kPieces) read_piece(field.bytes, source, data);
        if (field.number == model_field::kTrainerSpec) read_trainer_spec(field.bytes, source, data);
        if (field.number == model_field::kNormalizerSpec) {
            read_normalizer_spec(field.bytes, source, data);
        }
    }
    if (data.tokens.empty()) {
        fail(ErrorCode::bad_file, "{}: not a SentencePiece model: it has no pieces", source);
    }
    const auto unknown = std::find(data.types.begin(), data.types.end(), TokenType::unknown);
    if (unknown != data.types.end()) {
        data.unknown = static_cast<int32_t>(unknown - data.types.begin());
    }
    data.bos = find_token(data, "<s>", TokenType::control);
    data.eos = find_token(data, "</s>", TokenType::control);
    data.padding = find_token(data, "<pad>", TokenType::control);
    if (data.eos >= 0) data.end_of_generation = {data.eos};
    data.add_bos = data.bos >= 0;
    return data;
}

std::string sentencepiece_model(const TokenizerData& data, bool dummy_prefix) {
    ProtoWriter model;
    bool has_bytes = false;
    for (size_t i = 0; i < data.tokens.size(); ++i) {
        TokenType type = data.types[i];
        const bool is_hidden = needs_trust(data, static_cast<int32_t>(i));
        if (is_hidden && type != TokenType::unknown) type = TokenType::control;
        has_bytes = has_bytes || type == TokenType::byte;
        ProtoWriter piece;
        piece.add_bytes(piece_field::kPiece, data.tokens[i]);
        piece.add_float(piece_field::kScore, data.scores[i]);
        piece.add_integer(piece_field::kType, static_cast<uint64_t>(type));
        model.add_bytes(model_field::kPieces, piece.data());
    }
    ProtoWriter trainer;
    trainer.add_integer(trainer_field::kModelType,
                        data.unigram ? kModelTypeUnigram : kModelTypeBpe);
    trainer.add_integer(trainer_field::kVocabSize, data.tokens.size());
    trainer.add_integer(trainer_field::kByteFallback, has_bytes ? 1 : 0);
    model.add_bytes(model_field::kTrainerSpec, trainer.data());
    ProtoWriter normalizer;
    normalizer.add_bytes(normalizer_field::kName, "nemo");
    normalizer.add_bytes(normalizer_field::kPrecompiledCharsmap, data.precompiled_charsmap);
    normalizer.add_integer(normalizer_field::kAddDummyPrefix, dummy_prefix ? 1 : 0);
    normalizer.add_integer(normalizer_field::kRemoveExtraWhitespaces,
                           data.remove_extra_whitespaces ? 1 : 0);
    normalizer.add_integer(normalizer_field::kEscapeWhitespaces, 1);
    model.add_bytes(model_field::kNormalizerSpec, normalizer.data());
    return model.data();
}

}  // namespace nemo
