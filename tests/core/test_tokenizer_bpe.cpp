#include "core/error.h"
#include "core/tokenizer/bpe_alphabet.h"
#include "core/tokenizer/bpe_splitter.h"
#include "core/utf8.h"
#include "tests/core/tokenizer_fixture.h"

#include <doctest/doctest.h>

#include <array>
#include <numeric>

namespace nemo {
namespace {

std::vector<std::string> split(const char* pattern, std::string_view text) {
    std::vector<std::string_view> pieces;
    RegexSplitter(pattern, "test").split(text, pieces);
    return {pieces.begin(), pieces.end()};
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("byte-level BPE gives the ids of Hugging Face tokenizers") {
    const auto tokenizer = load_bpe_fixture();
    const auto cases = tokenizer_cases("bpe_cases.json");
    REQUIRE(cases.size() > 30);
    for (const auto& [text, ids, decoded] : cases) {
        CAPTURE(text);
        CHECK(tokenizer->encode(text, true) == ids);
        auto plain = ids;
        plain.erase(plain.begin());
        CHECK(tokenizer->encode(text, true, {.add_special = false}) == plain);
        // These two take white space along, which decoding cannot give back.
        const bool strips = text.find("<mask>") != text.npos || text.find("<strip>") != text.npos;
        if (!strips) CHECK(tokenizer->decode(plain, true) == text);
    }
}

TEST_CASE("the byte-level alphabet is a bijection") {
    std::string bytes(256, '\0');
    std::iota(bytes.begin(), bytes.end(), '\0');
    // As the definition in bpe_alphabet.h says it, apart from the code under test.
    const auto alphabet_from_bytes = [](std::string_view some_bytes) {
        std::array<char32_t, 256> letters{};
        char32_t stand_in = 0x100;
        for (char32_t byte = 0; byte < 256; ++byte) {
            const bool visible = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
            letters[byte] = visible ? byte : stand_in++;
        }
        std::string token;
        for (const char c : some_bytes) append_utf8(token, letters[static_cast<uint8_t>(c)]);
        return token;
    };
    const std::string spelled = alphabet_from_bytes(bytes);
    CHECK(bytes_from_alphabet(spelled) == bytes);
    CHECK(alphabet_from_bytes(" \n") == "\u0120\u010A");
    CHECK(bytes_from_alphabet("a b") == std::nullopt);
    CHECK(bytes_from_alphabet("\u0144") == std::nullopt);
}

TEST_CASE("merges go by rank, the leftmost first, and a text of one letter is no trouble") {
    TokenizerData data;
    data.tokens = {"a", "b", "aa", "ab", "aab", "aaaa"};
    data.types.assign(data.tokens.size(), TokenType::normal);
    data.merges = {"a a", "a b", "aa b", "aa aa"};
    const auto tokenizer = Tokenizer::create(data, "test");
    const auto encode = [&](std::string_view text) { return tokenizer->encode(text, false); };
    using Ids = std::vector<int32_t>;
    CHECK(encode("aaa") == Ids{2, 0});
    CHECK(encode("aab") == Ids{4});
    CHECK(encode("aaaaab") == Ids{5, 3});
    CHECK(encode("axb") == Ids{3});  // a byte without a token is dropped
    CHECK(encode(std::string(1'000'000, 'a')) == Ids(250'000, 5));
}

TEST_CASE("long runs of one character class stay fast and on a small stack") {
    const auto tokenizer = load_bpe_fixture();
    for (const char* unit : {"a", "A", " ", "\n", "7", "-", "\u4e00", "\u0301", "\U0001F600"}) {
        CAPTURE(unit);
        std::string text;
        for (int i = 0; i < 300'000; ++i) text += unit;
        CHECK(tokenizer->decode(tokenizer->encode(text, false, {.add_special = false}), true) ==
              text);
    }
}

TEST_CASE("the splitter isolates matches and gaps") {
    CHECK(split("\\p{N}", "a12b") == Strings{"a", "1", "2", "b"});
    CHECK(split("x*", "axxb") == Strings{"a", "xx", "b"});
    CHECK(split("\\s+(?!\\S)|\\s+", "a   b ") == Strings{"a", "  ", " ", "b", " "});
    CHECK(split("^b", "a\nb") == Strings{"a\n", "b"});
    CHECK(split("a", "").empty());
}

TEST_CASE("white space is Unicode's White_Space") {
    for (const char* space : {"\t", "\v", "\r", " ", "\u0085", "\u00A0", "\u1680", "\u2000",
                              "\u200A", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"}) {
        CHECK(split("\\s", std::string("a") + space + "b").size() == 3);
        CHECK(split("[^\\sab]", std::string("a") + space + "b").size() == 1);
    }
    for (const char* other : {"\u180E", "\u200B", "\uFEFF", "\x1C"}) {
        CHECK(split("\\s", std::string("a") + other + "b").size() == 1);
        CHECK(split("\\S+", std::string("a") + other + "b").size() == 1);
    }
}

TEST_CASE("letters of newer Unicode versions are letters") {
    // CJK extension H, Garay upper and lower case, an Arabic mark: all newer than Unicode 14.
    CHECK(split("\\p{Lo}+", "a\U00031350b").size() == 3);
    CHECK(split("\\p{Lu}", "\U00010D50\U00010D70") == Strings{"\U00010D50", "\U00010D70"});
    CHECK(split("\\p{M}", "a\u0897").size() == 2);
}

TEST_CASE("patterns that cannot be honoured are refused") {
    for (const char* pattern :
         {"(", "[a&&b]", "[a[b]]", "[\\S]", "(?m).", "\\h", "\\C", "(*ACCEPT)"}) {
        CAPTURE(pattern);
        CHECK_THROWS_WITH_AS(RegexSplitter(pattern, "file.json"),
                             doctest::Contains("file.json: split pattern"), Error);
    }
    const std::string text(5000, 'a');
    CHECK_THROWS_AS(split("(a+)+(a+)+(a+)+b|a", text), Error);
}

TEST_CASE("a tokenizer that contradicts itself is refused") {
    TokenizerData good;
    good.tokens = {"a", "b", "ab"};
    good.types.assign(3, TokenType::normal);
    good.merges = {"a b"};
    CHECK_NOTHROW(Tokenizer::create(good, "test"));
    const auto refused = [&](const char* what, auto change) {
        TokenizerData data = good;
        change(data);
        CHECK_THROWS_WITH_AS(Tokenizer::create(data, "test"), doctest::Contains(what), Error);
    };
    refused("0 tokens", [](TokenizerData& d) { d.tokens.clear(); });
    refused("2 token types for 3", [](TokenizerData& d) { d.types.pop_back(); });
    refused("both 'a'", [](TokenizerData& d) { d.tokens[1] = "a"; });
    refused("is empty", [](TokenizerData& d) { d.tokens[1] = ""; });
    refused("UTF-8", [](TokenizerData& d) { d.tokens[1] = "\xFF"; });
    refused("type 9", [](TokenizerData& d) { d.types[1] = TokenType{9}; });
    refused("EOS id 3", [](TokenizerData& d) { d.eos = 3; });
    refused("BOS id -2", [](TokenizerData& d) { d.bos = -2; });
    refused("end-of-generation id 7", [](TokenizerData& d) { d.end_of_generation = {7}; });
    refused("BOS is to be added", [](TokenizerData& d) { d.add_bos = true; });
    refused("merge 1 'a c'", [](TokenizerData& d) { d.merges.push_back("a c"); });
    refused("merge 1 'b a'", [](TokenizerData& d) { d.merges.push_back("b a"); });
    refused("not two tokens", [](TokenizerData& d) { d.merges.push_back("ab"); });
    refused("does not compile", [](TokenizerData& d) { d.split_regexes = {"["}; });
}

}  // namespace nemo
