// The tokenizer of a Hugging Face checkpoint directory: the vocabulary file, and what the small
// configuration files say about special tokens, the ends of an answer and the chat template.
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/tokenizer/sentencepiece_model.h"
#include "core/tokenizer/tokenizer_json.h"
#include "core/tokenizer_data.h"
#include "core/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <span>

namespace nemo {
namespace {

namespace fs = std::filesystem;

// Texts that end a chat turn. If the files name several ends and none as the tokenizer's own, one
// of these is the EOS.
constexpr const char* kTurnEnds[] = {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>",
                                     "<SPECIAL_12>"};

struct ConfigFile {
    std::string source;
    Json json;  // null if the file does not exist
};

ConfigFile read_config(const fs::path& path) {
    ConfigFile file{path.string(), {}};
    if (!fs::exists(path)) return file;
    file.json = read_json_file(path);
    if (!file.json.is_object()) {
        fail(ErrorCode::bad_file, "{}: is not a JSON object", file.source);
    }
    return file;
}

void read_added_tokens_decoder(const ConfigFile& config, TokenizerData& data) {
    const Json* decoder = config.json.find("added_tokens_decoder");
    if (decoder == nullptr || decoder->is_null()) return;
    if (!decoder->is_object()) {
        fail(ErrorCode::bad_file, "{}: added_tokens_decoder: is not an object", config.source);
    }
    for (const auto& [key, value] : decoder->object()) {
        const std::string where = fmt::format("added_tokens_decoder['{}']", key.substr(0, 100));
        int64_t id = -1;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc() || end != key.data() + key.size()) {
            fail(ErrorCode::bad_file, "{}: {}: the key is not an id", config.source, where);
        }
        apply_added_token(read_added_token(value, config.source, where, id), config.source, where,
                          data);
    }
}

// The text of a special token: a string, or an object with a content.
std::optional<std::string> token_text(const Json& value, std::string_view source,
                                      std::string_view where) {
    if (value.is_null()) return std::nullopt;
    const Json* content = value.is_object() ? value.find("content") : &value;
    if (content == nullptr || !content->is_string()) {
        fail(ErrorCode::bad_file, "{}: {}: is neither a token nor null", source, where);
    }
    return content->string();
}

void make_special(TokenizerData& data, int32_t id) {
    if (id < 0) return;
    TokenType& type = data.types[static_cast<size_t>(id)];
    // What was user-defined keeps being searched in its pass over the text.
    if (type == TokenType::user_defined) {
        data.added_rules.try_emplace(id, AddedTokenRule{.id = id, .normalized = true});
    }
    if (type == TokenType::normal || type == TokenType::user_defined) type = TokenType::control;
}

// bos_token and so on: the files that are read later win.
void read_special_tokens(const ConfigFile& config, TokenizerData& data) {
    const auto read = [&](const char* key) -> std::optional<int32_t> {
        const Json* value = config.json.find(key);
        if (value == nullptr) return std::nullopt;
        const auto text = token_text(*value, config.source, key);
        if (!text) return std::nullopt;
        const int32_t id = find_id(data, *text);
        make_special(data, id);
        return id;
    };
    // A post-processor that adds a token knows better which one it adds.
    if (const auto id = read("bos_token"); id && !data.add_bos) data.bos = *id;
    if (const auto id = read("eos_token"); id && !data.add_eos) data.eos = *id;
    if (const auto id = read("pad_token")) data.padding = *id;
    read("unk_token");
    const Json* more = config.json.find("additional_special_tokens");
    if (more == nullptr || !more->is_array()) return;
    std::map<std::string_view, int32_t> ids;  // hundreds of them in a vocabulary of 130,000
    for (size_t id = 0; id < data.tokens.size(); ++id)
        ids.try_emplace(data.tokens[id], static_cast<int32_t>(id));
    for (const Json& value : more->array()) {
        const auto text = token_text(value, config.source, "additional_special_tokens");
        if (const auto found = text ? ids.find(*text) : ids.end(); found != ids.end())
            make_special(data, found->second);
    }
}

// eos_token_id: null, one id or a list.
void read_eos_ids(const ConfigFile& config, TokenizerData& data) {
    const Json* value = config.json.find("eos_token_id");
    if (value == nullptr || value->is_null()) return;
    const std::span<const Json> ids =
        value->is_array() ? std::span<const Json>(value->array()) : std::span<const Json>(value, 1);
    for (const Json& id : ids) {
        if (!id.is_integer() || id.integer() < 0 ||
            id.integer() >= static_cast<int64_t>(data.tokens.size())) {
            fail(ErrorCode::bad_file, "{}: eos_token_id: is not an id below {}", config.source,
                 data.tokens.size());
        }
        data.end_of_generation.push_back(static_cast<int32_t>(id.integer()));
    }
}

void settle_end_of_generation(TokenizerData& data) {
    auto& ids = data.end_of_generation;
    if (data.eos < 0 && !ids.empty()) {
        const auto is_turn_end = [&](int32_t id) {
            return std::find(std::begin(kTurnEnds), std::end(kTurnEnds),
                             data.tokens[static_cast<size_t>(id)]) != std::end(kTurnEnds);
        };
        const auto turn_end = std::find_if(ids.begin(), ids.end(), is_turn_end);
        data.eos = turn_end != ids.end() ? *turn_end : ids.front();
    }
    if (data.eos >= 0) ids.push_back(data.eos);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

// chat_template: a string, or a list of {name, template} of which "default" or else the first
// counts.
std::string read_chat_template(const fs::path& directory, const ConfigFile& config) {
    const fs::path file = directory / "chat_template.jinja";
    if (fs::exists(file)) {
        std::string text(MappedFile::open(file).text());
        if (!is_valid_utf8(text)) fail(ErrorCode::bad_file, "{}: is not UTF-8", file.string());
        return text;
    }
    const Json* value = config.json.find("chat_template");
    if (value == nullptr || value->is_null()) return {};
    if (value->is_string()) return value->string();
    const Json* chosen = nullptr;
    if (value->is_array()) {
        for (const Json& entry : value->array()) {
            const Json* name = entry.find("name");
            const bool is_default =
                name != nullptr && name->is_string() && name->string() == "default";
            if (chosen == nullptr || is_default) chosen = entry.find("template");
        }
    }
    if (chosen == nullptr || !chosen->is_string()) {
        fail(ErrorCode::bad_file, "{}: chat_template: is neither a string nor a list of templates",
             config.source);
    }
    return chosen->string();
}

void read_sentencepiece_flags(const ConfigFile& config, TokenizerData& data) {
    const auto read = [&](const char* key, bool& flag) {
        const Json* value = config.json.find(key);
        if (value != nullptr && value->is_bool()) flag = value->boolean();
    };
    read("add_bos_token", data.add_bos);
    read("add_eos_token", data.add_eos);
    data.add_bos = data.add_bos && data.bos >= 0;
    data.add_eos = data.add_eos && data.eos >= 0;
}

TokenizerData read_vocabulary(const fs::path& directory) {
    const fs::path json_file = directory / "tokenizer.json";
    const fs::path model_file = directory / "tokenizer.model";
    const bool has_model = fs::exists(model_file);
    if (fs::exists(json_file)) {
        const Json json = read_json_file(json_file);
        if (!has_model || !describes_sentencepiece(json))
            return parse_tokenizer_json(json, json_file.string());
    }
    if (!has_model) {
        fail(ErrorCode::bad_file, "{}: there is neither a tokenizer.json nor a tokenizer.model",
             directory.string());
    }
    return tokenizer_from_sentencepiece(model_file);
}

}  // namespace

void pad_vocabulary(TokenizerData& data, size_t n_tokens) {
    const size_t n = std::max(n_tokens, data.tokens.size());
    data.tokens.resize(n);
    data.types.resize(n, TokenType::unused);
    if (data.kind == TokenizerKind::sentencepiece) data.scores.resize(n, 0.0f);
    for (size_t id = 0; id < n; ++id) {
        if (data.tokens[id].empty()) data.tokens[id] = fmt::format("[PAD{}]", id);
    }
}

TokenizerData tokenizer_from_sentencepiece(const fs::path& file) {
    return parse_sentencepiece_model(MappedFile::open(file).text(), file.string());
}

TokenizerData tokenizer_from_hf(const fs::path& directory) {
    TokenizerData data = read_vocabulary(directory);
    const ConfigFile config = read_config(directory / "tokenizer_config.json");
    read_added_tokens_decoder(config, data);
    pad_vocabulary(data, data.tokens.size());
    read_special_tokens(read_config(directory / "special_tokens_map.json"), data);
    read_special_tokens(config, data);
    if (data.kind == TokenizerKind::sentencepiece) read_sentencepiece_flags(config, data);
    read_eos_ids(read_config(directory / "config.json"), data);
    read_eos_ids(read_config(directory / "generation_config.json"), data);
    settle_end_of_generation(data);
    data.chat_template = read_chat_template(directory, config);
    return data;
}

}  // namespace nemo
