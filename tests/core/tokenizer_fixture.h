// The tiny vocabularies of tests/data/tokenizer and the ids that the reference libraries give;
// tests/oracle/make_tokenizer_fixtures.py made them.
#pragma once

#include "core/json.h"
#include "core/mapped_file.h"
#include "core/tokenizer.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace nemo {

inline std::filesystem::path tokenizer_fixture(const char* name) {
    return std::filesystem::path(NEMO_SOURCE_DIR) / "tests/data/tokenizer" / name;
}

inline std::unique_ptr<Tokenizer> load_bpe_fixture() {
    return Tokenizer::create(tokenizer_from_tokenizer_json(tokenizer_fixture("tokenizer.json")),
                             "tokenizer.json");
}

struct TokenizerCase {
    std::string text;
    std::vector<int32_t> ids;
    std::string decoded;  // SentencePiece only
};

inline std::vector<TokenizerCase> tokenizer_cases(const char* name) {
    const std::filesystem::path path = tokenizer_fixture(name);
    const Json json = parse_json(MappedFile::open(path).text(), path.string());
    std::vector<TokenizerCase> cases;
    for (const Json& entry : json.array()) {
        TokenizerCase& one = cases.emplace_back();
        one.text = entry.find("text")->string();
        for (const Json& id : entry.find("ids")->array()) {
            one.ids.push_back(static_cast<int32_t>(id.integer()));
        }
        if (const Json* decoded = entry.find("decoded")) one.decoded = decoded->string();
    }
    return cases;
}

inline int32_t id_of(const Tokenizer& tokenizer, const std::string& token) {
    for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
        if (tokenizer.data().tokens[static_cast<size_t>(id)] == token) return id;
    }
    return -1;
}

}  // namespace nemo
