// Vocabularies from tokenizer.json, from HF directories and through GGUF metadata.
#include "core/error.h"
#include "core/gguf.h"
#include "tests/core/tokenizer_fixture.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <fmt/format.h>

namespace nemo {
namespace {

// A tiny tokenizer.json; each argument replaces one member.
struct TokenizerJson {
    std::string normalizer = "null";
    std::string pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": false})";
    std::string post_processor = "null";
    std::string added = R"([{"id": 4, "content": "<s>", "special": true}])";
    std::string model = R"("type": "BPE")";
    std::string vocab = R"({"a": 0, "b": 1, "ab": 2, "c": 3})";
    std::string merges = R"(["a b"])";

    std::string text() const {
        return fmt::format(R"({{"added_tokens": {}, "normalizer": {}, "pre_tokenizer": {},
            "post_processor": {}, "model": {{{}, "vocab": {}, "merges": {}}}}})",
                           added, normalizer, pre_tokenizer, post_processor, model, vocab, merges);
    }
};

TokenizerData read(const TempFolder& folder, const TokenizerJson& json) {
    write_file(folder / "tokenizer.json", json.text());
    return tokenizer_from_tokenizer_json(folder / "tokenizer.json");
}

void check_same(const TokenizerData& a, const TokenizerData& b) {
    CHECK(a.kind == b.kind);
    CHECK(a.tokens == b.tokens);
    CHECK(a.types == b.types);
    CHECK(a.merges == b.merges);
    CHECK(a.scores == b.scores);
    CHECK(a.added_rules == b.added_rules);
    CHECK(a.split_regexes == b.split_regexes);
    CHECK(a.ignore_merges == b.ignore_merges);
    CHECK(a.add_space_prefix == b.add_space_prefix);
    CHECK(a.remove_extra_whitespaces == b.remove_extra_whitespaces);
    CHECK(a.precompiled_charsmap == b.precompiled_charsmap);
    CHECK(a.unigram == b.unigram);
    CHECK(a.add_bos == b.add_bos);
    CHECK(a.add_eos == b.add_eos);
    CHECK(a.bos == b.bos);
    CHECK(a.eos == b.eos);
    CHECK(a.unknown == b.unknown);
    CHECK(a.padding == b.padding);
    CHECK(a.end_of_generation == b.end_of_generation);
    CHECK(a.chat_template == b.chat_template);
}

using Ids = std::vector<int32_t>;

}  // namespace

TEST_CASE("tokenizer.json: spellings that mean the same") {
    const TempFolder folder;
    TokenizerJson json;
    CHECK(read(folder, json).merges == std::vector<std::string>{"a b"});
    json.merges = R"([["a", "b"]])";
    CHECK(read(folder, json).merges == std::vector<std::string>{"a b"});
    json.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
    CHECK(read(folder, json).split_regexes == std::vector<std::string>{"\\.", "\\p{N}"});
}

TEST_CASE("tokenizer.json: added tokens extend the vocabulary and gaps are filled") {
    const TempFolder folder;
    TokenizerJson json;
    json.added = R"([{"id": 6, "content": "<x>", "special": true, "lstrip": true},
                     {"id": 2, "content": "ab", "special": false}])";
    TokenizerData data = read(folder, json);
    CHECK(data.tokens == std::vector<std::string>{"a", "b", "ab", "c", "[PAD4]", "[PAD5]", "<x>"});
    CHECK(data.types[2] == TokenType::user_defined);
    CHECK(data.types[4] == TokenType::unused);
    CHECK(data.types[6] == TokenType::control);
    REQUIRE(data.added_rules.size() == 1);
    CHECK(data.added_rules.at(6) == AddedTokenRule{.id = 6, .lstrip = true});
    pad_vocabulary(data, 9);
    CHECK(data.tokens.back() == "[PAD8]");
    CHECK(Tokenizer::create(data, "test")->encode("b \n<x>[PAD8]", true) == Ids{1, 6});
}

// Looking through all rules, or all tokens, for each of them takes 20 s.
TEST_CASE("tokenizer.json: a hundred thousand added tokens with rules, all of them special") {
    const TempFolder folder;
    constexpr int kFirst = 4;
    constexpr int kLast = 100'000;
    std::string added;
    std::string special;
    for (int id = kFirst; id <= kLast; ++id) {
        added += fmt::format(R"({}{{"id": {}, "content": "<{}>", "lstrip": true}})",
                             id == kFirst ? "" : ",", id, id);
        special += fmt::format(R"({}"<{}>")", id == kFirst ? "" : ",", id);
    }
    TokenizerJson json;
    json.added = "[" + added + "]";
    read(folder, json);
    write_file(folder / "tokenizer_config.json",
               R"({"additional_special_tokens": [)" + special + "]}");
    const TokenizerData data = tokenizer_from_hf(folder / "");
    CHECK(data.added_rules.size() == kLast - kFirst + 1);
    CHECK(data.added_rules.at(kLast) ==
          AddedTokenRule{.id = kLast, .lstrip = true, .normalized = true});
    CHECK(data.types.at(kLast) == TokenType::control);
}

TEST_CASE("tokenizer.json: the prefix space comes before every stretch of text") {
    const TempFolder folder;
    TokenizerJson json;
    json.vocab = "{\"a\": 0, \"\\u0120\": 1}";
    json.merges = "[]";
    json.added = R"([{"id": 2, "content": "<s>", "special": true}])";
    json.pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": true})";
    const auto tokenizer = Tokenizer::create(read(folder, json), "test");
    CHECK(tokenizer->encode("a<s>a<s> a", true) == Ids{1, 0, 2, 1, 0, 2, 1, 0});
}

TEST_CASE("tokenizer.json: bad fields are named") {
    const TempFolder folder;
    const auto refused = [&](const char* field, auto change) {
        TokenizerJson json;
        change(json);
        CAPTURE(json.text());
        try {
            Tokenizer::create(read(folder, json), "created");
            FAIL_CHECK("was accepted");
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::bad_file);
            CHECK(std::string(error.what()).find(field) != std::string::npos);
            CHECK(std::string(error.what()).find("tokenizer.json") != std::string::npos);
        }
    };
    using T = TokenizerJson;
    refused("model.type", [](T& j) { j.model = R"("type": "WordPiece")"; });
    refused("model.byte_fallback", [](T& j) { j.model = R"("byte_fallback": true)"; });
    refused("model.dropout", [](T& j) { j.model = R"("dropout": 0.1)"; });
    refused("model.ignore_merges", [](T& j) { j.model = R"("ignore_merges": 1)"; });
    refused("end_of_word_suffix", [](T& j) { j.model = R"("end_of_word_suffix": "</w>")"; });
    refused("model.unk_token", [](T& j) { j.model = R"("unk_token": 3)"; });
    refused("model.vocab", [](T& j) { j.vocab = "[]"; });
    refused("model.vocab['b']", [](T& j) { j.vocab = R"({"a": 0, "b": 0})"; });
    refused("model.vocab['a']", [](T& j) { j.vocab = R"({"a": -1})"; });
    refused("model.vocab['a']", [](T& j) { j.vocab = R"({"a": 99999999999})"; });
    refused("model.vocab['a']", [](T& j) { j.vocab = R"({"a": 0.5})"; });
    refused("model.merges", [](T& j) { j.merges = "{}"; });
    refused("model.merges[0]", [](T& j) { j.merges = R"([["a"]])"; });
    refused("model.merges[0]", [](T& j) { j.merges = R"([["a", " b"]])"; });
    refused("added_tokens", [](T& j) { j.added = "7"; });
    refused("added_tokens[0].content", [](T& j) { j.added = R"([{"id": 4}])"; });
    refused("added_tokens[0].special",
            [](T& j) { j.added = R"([{"id": 4, "content": "x", "special": "yes"}])"; });
    refused("added_tokens[0]", [](T& j) { j.added = R"([{"id": 0, "content": "x"}])"; });
    refused("added_tokens[0]", [](T& j) { j.added = R"([{"content": "x"}])"; });
    refused("normalizer.type", [](T& j) { j.normalizer = R"({"type": "NFC"})"; });
    refused("pre_tokenizer", [](T& j) { j.pre_tokenizer = "null"; });
    refused("pre_tokenizer.type", [](T& j) { j.pre_tokenizer = R"({"type": "Metaspace"})"; });
    refused("pre_tokenizer.behavior", [](T& j) {
        j.pre_tokenizer = R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed"})";
    });
    refused("pre_tokenizer.pattern", [](T& j) {
        j.pre_tokenizer = R"({"type": "Split", "pattern": {}, "behavior": "Isolated"})";
    });
    refused("post_processor.type", [](T& j) { j.post_processor = R"({"type": "Bert"})"; });
    refused("post_processor.single",
            [](T& j) { j.post_processor = R"({"type": "TemplateProcessing", "single": 1})"; });
    refused("special_tokens", [](T& j) {
        j.post_processor = R"({"type": "TemplateProcessing", "single":
            [{"SpecialToken": {"id": "<s>"}}], "special_tokens": {}})";
    });
}

TEST_CASE("HF directory: special tokens, ends of generation and chat template") {
    const TempFolder folder;
    TokenizerJson json;
    json.added = R"([{"id": 4, "content": "<s>", "special": true},
                     {"id": 5, "content": "</s>", "special": true},
                     {"id": 6, "content": "<|im_end|>", "special": false}])";
    read(folder, json);
    write_file(folder / "tokenizer_config.json", R"({"bos_token": {"content": "<s>"},
        "eos_token": "<|im_end|>", "pad_token": null, "chat_template": [
            {"name": "tool", "template": "T"}, {"name": "default", "template": "D"}],
        "added_tokens_decoder": {"8": {"content": "<extra>", "special": true}}})");
    write_file(folder / "config.json", R"({"eos_token_id": 5})");
    write_file(folder / "generation_config.json", R"({"eos_token_id": [5, 8]})");
    const auto directory = (folder / "tokenizer.json").parent_path();
    TokenizerData data = tokenizer_from_hf(directory);
    CHECK(data.bos == 4);
    CHECK(data.eos == 6);
    CHECK(data.padding == -1);
    CHECK(data.end_of_generation == Ids{5, 6, 8});
    CHECK(data.types[6] == TokenType::control);
    CHECK(data.tokens[7] == "[PAD7]");
    CHECK(data.chat_template == "D");
    write_file(folder / "chat_template.jinja", "file");
    CHECK(tokenizer_from_hf(directory).chat_template == "file");
    write_file(folder / "chat_template.jinja", "\xff");
    CHECK_THROWS_WITH_AS(tokenizer_from_hf(directory),
                         doctest::Contains("chat_template.jinja: is not UTF-8"), Error);
    std::filesystem::remove(folder / "chat_template.jinja");

    // Without the tokenizer's own EOS the end of a chat turn is the EOS.
    write_file(folder / "tokenizer_config.json", "{}");
    write_file(folder / "generation_config.json", R"({"eos_token_id": [5, 6]})");
    CHECK(tokenizer_from_hf(directory).eos == 6);

    write_file(folder / "generation_config.json", R"({"eos_token_id": 99})");
    CHECK_THROWS_WITH_AS(tokenizer_from_hf(directory), doctest::Contains("eos_token_id"), Error);
    const TempFolder empty;
    CHECK_THROWS_AS(tokenizer_from_hf((empty / "x").parent_path()), Error);
}

TEST_CASE("GGUF metadata gives a vocabulary back unchanged") {
    TokenizerData bpe = tokenizer_from_tokenizer_json(tokenizer_fixture("tokenizer.json"));
    bpe.eos = 2;
    bpe.end_of_generation = {2, 4};
    bpe.chat_template = "{{ messages }}";
    TokenizerData sp_bpe = tokenizer_from_sentencepiece(tokenizer_fixture("sp_bpe.model"));
    TokenizerData sp_unigram = tokenizer_from_sentencepiece(tokenizer_fixture("sp_unigram.model"));
    TokenizerData several = bpe;
    several.split_regexes = {"a", "b"};
    TokenizerData none = bpe;
    none.split_regexes.clear();
    for (const TokenizerData& data : {bpe, sp_bpe, sp_unigram, several, none}) {
        GgufMetadata metadata("test.gguf");
        add_tokenizer_metadata(data, metadata);
        check_same(tokenizer_from_gguf(metadata), data);
    }
    GgufMetadata metadata("test.gguf");
    add_tokenizer_metadata(bpe, metadata);
    CHECK(metadata.get_string("tokenizer.ggml.model") == "gpt2");
    CHECK(metadata.get_string("tokenizer.ggml.pre") == "tekken");
    CHECK(metadata.find("tokenizer.ggml.token_type")->type == GgufType::i32);
    CHECK(metadata.find("tokenizer.ggml.eos_token_id")->type == GgufType::u32);
    CHECK(metadata.get_integer("tokenizer.ggml.eot_token_id") == 4);
    CHECK(metadata.get_bool("tokenizer.ggml.add_bos_token"));
}

TEST_CASE("GGUF files of llama.cpp's converter: the tekken split, and every end of an answer") {
    GgufMetadata metadata("llama.gguf");
    metadata.set_string("general.architecture", "nemotron_h_moe");
    metadata.set_string("tokenizer.ggml.model", "gpt2");
    metadata.set_string("tokenizer.ggml.pre", "pixtral");
    metadata.set_string_array("tokenizer.ggml.tokens", {"a", "</s>", "<|im_end|>", "<|eot_id|>"});
    metadata.set_i32_array("tokenizer.ggml.token_type", {1, 3, 3, 1});
    metadata.set_string_array("tokenizer.ggml.merges", {});
    metadata.set_u32("tokenizer.ggml.eos_token_id", 2);
    const TokenizerData data = tokenizer_from_gguf(metadata);
    CHECK(data.split_regexes == std::vector<std::string>{kTekkenRegex});
    CHECK(data.ignore_merges);
    CHECK_FALSE(data.add_bos);  // there is no BOS
    CHECK(data.end_of_generation == Ids{2, 1});

    const auto refused = [&](const char* key, auto change) {
        GgufMetadata changed = metadata;
        change(changed);
        CHECK_THROWS_WITH_AS(tokenizer_from_gguf(changed), doctest::Contains(key), Error);
    };
    refused("tokenizer.ggml.pre = 'x'", [](GgufMetadata& m) {
        m.set_string("general.architecture", "other");
        m.set_string("tokenizer.ggml.pre", "x");
    });
    refused("tokenizer.ggml.model = 'bert'",
            [](GgufMetadata& m) { m.set_string("tokenizer.ggml.model", "bert"); });
    refused("tokenizer.ggml.token_type has 1 elements for 4 tokens",
            [](GgufMetadata& m) { m.set_i32_array("tokenizer.ggml.token_type", {1}); });
    refused("tokenizer.ggml.token_type[0] is 7", [](GgufMetadata& m) {
        m.set_i32_array("tokenizer.ggml.token_type", {7, 1, 1, 1});
    });
    refused("tokenizer.ggml.eos_token_id = 4 is not in the vocabulary of 4",
            [](GgufMetadata& m) { m.set_u32("tokenizer.ggml.eos_token_id", 4); });
    refused("nemo.tokenizer.added_rules has 3 elements", [](GgufMetadata& m) {
        m.set_i32_array("nemo.tokenizer.added_rules", {1, 2, 3});
    });
    refused("nemo.tokenizer.eog_ids has 1025 ids, the limit is 1024",
            [](GgufMetadata& m) { m.set_i32_array("nemo.tokenizer.eog_ids", Ids(1025, 1)); });
}

}  // namespace nemo
