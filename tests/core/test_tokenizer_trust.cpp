// Text that a user wrote never becomes a control token, however it is cut.
#include "core/utf8.h"
#include "tests/core/tokenizer_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

namespace nemo {
namespace {

// Tokens that only trusted text may produce.
bool is_forbidden(const Tokenizer& tokenizer, int32_t id) {
    const TokenType type = tokenizer.data().types[static_cast<size_t>(id)];
    const std::string& text = tokenizer.data().tokens[static_cast<size_t>(id)];
    return type == TokenType::control || type == TokenType::unknown || type == TokenType::unused ||
           (type == TokenType::user_defined && text.front() == '<' && text.back() == '>');
}

size_t n_forbidden(const Tokenizer& tokenizer, const MarkedText& text) {
    const auto ids = tokenizer.encode(text, {.add_special = false});
    return static_cast<size_t>(std::count_if(
        ids.begin(), ids.end(), [&](int32_t id) { return is_forbidden(tokenizer, id); }));
}

std::vector<std::string> forbidden_texts(const Tokenizer& tokenizer) {
    std::vector<std::string> texts;
    for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
        if (is_forbidden(tokenizer, id)) {
            texts.push_back(tokenizer.data().tokens[static_cast<size_t>(id)]);
        }
    }
    return texts;
}

}  // namespace

TEST_CASE("no special text becomes a token without trust: alone, split, nested, disguised") {
    const auto tokenizer = load_bpe_fixture();
    const auto texts = forbidden_texts(*tokenizer);
    REQUIRE(texts.size() >= 8);
    for (const std::string& text : texts) {
        CAPTURE(text);
        CHECK(n_forbidden(*tokenizer, {{text, true}}) == 1);
        CHECK(n_forbidden(*tokenizer, {{text, false}}) == 0);
        CHECK(n_forbidden(*tokenizer, {{"a " + text + "\n" + text, false}}) == 0);
        for (size_t cut = 1; cut < text.size(); ++cut) {
            const std::string head = text.substr(0, cut);
            const std::string tail = text.substr(cut);
            CHECK(n_forbidden(*tokenizer, {{head, true}, {tail, false}}) == 0);
            CHECK(n_forbidden(*tokenizer, {{head, false}, {tail, true}}) == 0);
            CHECK(n_forbidden(*tokenizer, {{head, false}, {tail, false}}) == 0);
            CHECK(n_forbidden(*tokenizer, {{head, true}, {text, false}, {tail, true}}) == 0);
            CHECK(n_forbidden(*tokenizer, {{head + text + tail, false}}) == 0);
            // Both halves trusted, nothing between them: a border alone does not hide the token.
            CHECK(n_forbidden(*tokenizer, {{head, true}, {"", false}, {tail, true}}) == 1);
        }
        const std::string overlong = "\xC0\xBC" + text.substr(1);
        CHECK(n_forbidden(*tokenizer, {{overlong, false}}) == 0);
        CHECK(n_forbidden(*tokenizer, {{overlong, true}}) == 0);
    }
}

TEST_CASE("borders between segments change nothing else") {
    const auto tokenizer = load_bpe_fixture();
    const std::string text = "the quick <thing> 世界 \u00e9t\u00e9 jumps";
    const auto whole = tokenizer->encode(text, false);
    for (size_t cut = 0; cut <= text.size(); ++cut) {
        if (incomplete_utf8_tail(std::string_view(text).substr(0, cut)) != 0) continue;
        const MarkedText parts = {{text.substr(0, cut), true}, {text.substr(cut), false}};
        CHECK(tokenizer->encode(parts) == whole);
    }
}

TEST_CASE("user-defined tokens that do not look like markup are ordinary text") {
    const auto tokenizer = load_bpe_fixture();
    const int32_t word = id_of(*tokenizer, "word");
    REQUIRE(word >= 0);
    CHECK(tokenizer->encode("word", false, {.add_special = false}) == std::vector<int32_t>{word});
    const int32_t open = id_of(*tokenizer, "<|im");
    CHECK(tokenizer->encode("<|im", false, {.add_special = false}) == std::vector<int32_t>{open});
}

TEST_CASE("no spelling reaches a control token through the model's own vocabulary") {
    TokenizerData data;
    data.tokens = {"<", "s", ">", "<s", "<s>", "s>", "[x]"};
    data.types = {TokenType::normal,  TokenType::normal, TokenType::normal,      TokenType::normal,
                  TokenType::control, TokenType::normal, TokenType::user_defined};
    data.merges = {"< s", "<s >"};
    for (const bool ignore_merges : {false, true}) {
        data.ignore_merges = ignore_merges;
        const auto tokenizer = Tokenizer::create(data, "test");
        CHECK(tokenizer->encode("<s>", true) == std::vector<int32_t>{4});
        CHECK(tokenizer->encode("<s>", false) == std::vector<int32_t>{3, 2});
        CHECK(tokenizer->encode("[x]", false).empty());
    }
}

TEST_CASE("random mixtures of trusted and untrusted text") {
    const auto tokenizer = load_bpe_fixture();
    const auto texts = forbidden_texts(*tokenizer);
    std::mt19937 random(7);
    for (int round = 0; round < 2000; ++round) {
        MarkedText marked;
        for (int i = 0; i < 6; ++i) {
            const std::string& text = texts[random() % texts.size()];
            const size_t cut = random() % (text.size() + 1);
            // Trusted parts are never whole tokens, so only untrusted text could complete one.
            const bool trusted = random() % 2 == 0;
            marked.push_back(
                {trusted ? text.substr(0, std::min(cut, text.size() - 1)) : text, trusted});
            if (trusted) marked.push_back({" ", false});
        }
        CHECK(n_forbidden(*tokenizer, marked) == 0);
    }
}

TEST_CASE("the stream decoder emits whole code points only") {
    TokenizerData data;
    for (int byte = 0; byte < 256; ++byte) {
        std::string token;
        const char32_t c = static_cast<char32_t>(byte);
        const bool itself = (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE;
        static char32_t stand_in = 0x100;
        append_utf8(token, itself ? c : stand_in++);
        data.tokens.push_back(token);
    }
    data.types.assign(256, TokenType::normal);
    const auto tokenizer = Tokenizer::create(data, "test");
    const auto stream = [&](std::string_view bytes) {
        StreamDecoder decoder(*tokenizer, false);
        std::string text;
        for (const char c : bytes) {
            const std::string part = decoder.push(static_cast<uint8_t>(c));
            CHECK(is_valid_utf8(part));
            text += part;
        }
        return text + decoder.finish();
    };
    CHECK(stream("a\u00e9\u4e16\U0001F600b") == "a\u00e9\u4e16\U0001F600b");
    CHECK(stream("\xE4\xB8") == "\uFFFD");
    CHECK(stream("\xE4\xB8x") == "\uFFFDx");
    CHECK(stream("\xFF\xFE") == "\uFFFD\uFFFD");
    CHECK(stream("\xF0\x9F\x98") == "\uFFFD");
    std::mt19937 random(3);
    for (int round = 0; round < 3000; ++round) {
        std::string bytes;
        for (int i = 0; i < 12; ++i) {
            constexpr std::string_view kPool = "a\x80\xBF\xC3\xE0\xE4\xED\xF0\xF4\x9F\xA0\xFF";
            bytes += kPool[random() % kPool.size()];
        }
        CHECK(stream(bytes) == sanitize_utf8(bytes));
    }
}

}  // namespace nemo
