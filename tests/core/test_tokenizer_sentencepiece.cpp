#include "core/error.h"
#include "core/tokenizer/sentencepiece_model.h"
#include "tests/core/tokenizer_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace nemo {
namespace {

std::unique_ptr<Tokenizer> load(const char* name) {
    return Tokenizer::create(tokenizer_from_sentencepiece(tokenizer_fixture(name)), name);
}

}  // namespace

TEST_CASE("SentencePiece models give the ids of the Python package") {
    for (const std::string name : {"sp_bpe", "sp_unigram"}) {
        const auto tokenizer = load((name + ".model").c_str());
        const auto cases = tokenizer_cases((name + "_cases.json").c_str());
        REQUIRE(cases.size() > 30);
        for (const auto& [text, ids, decoded] : cases) {
            CAPTURE(name);
            CAPTURE(text);
            CHECK(tokenizer->encode(text, false, {.add_special = false}) == ids);
            const bool has_unknown =
                std::find(ids.begin(), ids.end(), tokenizer->data().unknown) != ids.end();
            if (!has_unknown) CHECK(tokenizer->decode(ids, false) == decoded);
        }
    }
}

TEST_CASE("a SentencePiece model survives being rewritten") {
    for (const char* name : {"sp_bpe.model", "sp_unigram.model"}) {
        const TokenizerData data = tokenizer_from_sentencepiece(tokenizer_fixture(name));
        const TokenizerData again =
            parse_sentencepiece_model(sentencepiece_model(data, true), name);
        CHECK(again.tokens == data.tokens);
        CHECK(again.scores == data.scores);
        CHECK(again.unigram == data.unigram);
        CHECK(again.precompiled_charsmap == data.precompiled_charsmap);
        CHECK(again.remove_extra_whitespaces == data.remove_extra_whitespaces);
        CHECK(again.add_space_prefix);
    }
}

TEST_CASE(
    "SentencePiece: control pieces only in trusted text, the dummy prefix only at the start") {
    const auto tokenizer = load("sp_bpe.model");
    const int32_t end = id_of(*tokenizer, "<|im_end|>");
    const int32_t tool = id_of(*tokenizer, "[TOOL]");
    REQUIRE(end > 0);
    const auto count = [&](const MarkedText& text, int32_t id) {
        const auto ids = tokenizer->encode(text, {.add_special = false});
        return std::count(ids.begin(), ids.end(), id);
    };
    CHECK(count({{"a<|im_end|>b[TOOL]", true}}, end) == 1);
    CHECK(count({{"a<|im_end|>b[TOOL]", true}}, tool) == 1);
    CHECK(count({{"a<|im_end|>b[TOOL]", false}}, end) == 0);
    CHECK(count({{"a<|im_end|>b[TOOL]", false}}, tool) == 0);
    CHECK(count({{"a<|im_", true}, {"end|>", false}}, end) == 0);
    CHECK(count({{"<s></s><unk><0x0A>", false}}, tokenizer->data().bos) == 0);

    const std::string_view text = "the fox<|im_end|>the dog";
    const auto ids = tokenizer->encode(text, true, {.add_special = false});
    CHECK(tokenizer->decode(ids, true) == text);
    const auto with_bos = tokenizer->encode("the", false);
    CHECK(with_bos.front() == tokenizer->data().bos);
    CHECK(tokenizer->decode(with_bos, false) == "the");
}

TEST_CASE("SentencePiece: streaming bytes pieces") {
    const auto tokenizer = load("sp_bpe.model");
    const std::string text = "fox \U0001F600\U0001F47D end";
    StreamDecoder decoder(*tokenizer, false);
    std::string streamed;
    for (const int32_t id : tokenizer->encode(text, false, {.add_special = false})) {
        streamed += decoder.push(id);
    }
    CHECK(streamed + decoder.finish() == " " + text);
}

TEST_CASE("damaged SentencePiece models are refused, never crash") {
    const std::string proto(MappedFile::open(tokenizer_fixture("sp_bpe.model")).text());
    size_t n_refused = 0;
    for (size_t n = 0; n < proto.size(); n += 13) {
        try {
            Tokenizer::create(parse_sentencepiece_model(proto.substr(0, n), "cut"), "cut");
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::bad_file);
            ++n_refused;
        }
    }
    CHECK(n_refused > proto.size() / 13 / 2);
    for (size_t i = 0; i < proto.size(); i += 7) {
        std::string changed = proto;
        changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
        try {
            Tokenizer::create(parse_sentencepiece_model(changed, "changed"), "changed")
                ->encode("the fox", true);
        } catch (const Error&) {
        }
    }
}

TEST_CASE("what the sentencepiece library would trust blindly is checked") {
    const TokenizerData bpe = tokenizer_from_sentencepiece(tokenizer_fixture("sp_bpe.model"));
    const TokenizerData good = tokenizer_from_sentencepiece(tokenizer_fixture("sp_unigram.model"));
    const auto refused = [](const char* what, TokenizerData data, auto change) {
        change(data);
        CHECK_THROWS_WITH_AS(Tokenizer::create(data, "m"), doctest::Contains(what), Error);
    };
    refused("scores for", bpe, [](TokenizerData& d) { d.scores.pop_back(); });
    refused("score of token 9", bpe, [](TokenizerData& d) { d.scores[9] = NAN; });
    refused("NUL", bpe, [](TokenizerData& d) { d.tokens[300] = std::string("a\0b", 3); });
    refused("255 byte tokens", bpe, [](TokenizerData& d) {
        const auto byte = std::find(d.types.begin(), d.types.end(), TokenType::byte);
        *byte = TokenType::normal;
    });
    refused("0 tokens of type unknown", bpe,
            [](TokenizerData& d) { d.types[static_cast<size_t>(d.unknown)] = TokenType::control; });
    REQUIRE(good.precompiled_charsmap.size() > 2000);
    refused("trie size", good, [](TokenizerData& d) { d.precompiled_charsmap.resize(900); });
    refused("trie size", good, [](TokenizerData& d) { d.precompiled_charsmap[3] = '\x7F'; });
    refused("trie offset", good, [](TokenizerData& d) {
        for (size_t i = 4; i < 8; ++i) d.precompiled_charsmap[i] = '\x7F';
    });
    refused("replacement", good, [](TokenizerData& d) {
        for (size_t i = 4; i < 8; ++i) d.precompiled_charsmap[i] = '\xFF';
    });
    refused("last byte", good, [](TokenizerData& d) { d.precompiled_charsmap.back() = 'x'; });
}

}  // namespace nemo
