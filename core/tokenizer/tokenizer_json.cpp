// Every field that changes token ids is either honoured or refused by name; fields that only
// concern offsets, padding and truncation of batches are skipped.
#include "core/tokenizer/tokenizer_json.h"

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/tokenizer/bpe_splitter.h"
#include "core/tokenizer/tokenizer_pre.h"

#include <fmt/format.h>

#include <algorithm>

namespace nemo {
namespace {

// Bounds the gaps that a single huge id could make us fill.
constexpr int64_t kMaxTokens = int64_t{1} << 24;

[[noreturn]] void bad_field(std::string_view source, std::string_view field,
                            std::string_view what) {
    fail(ErrorCode::bad_file, "{}: {}: {}", source, field, what);
}

const Json& require(const Json& object, std::string_view key, std::string_view source,
                    std::string_view where) {
    const Json* value = object.find(key);
    if (value == nullptr) bad_field(source, fmt::format("{}.{}", where, key), "is missing");
    return *value;
}

const std::string& require_string(const Json& object, std::string_view key, std::string_view source,
                                  std::string_view where) {
    const Json& value = require(object, key, source, where);
    if (!value.is_string()) bad_field(source, fmt::format("{}.{}", where, key), "is not a string");
    return value.string();
}

const Json::Array& require_array(const Json& object, std::string_view key, std::string_view source,
                                 std::string_view where) {
    const Json& value = require(object, key, source, where);
    if (!value.is_array()) bad_field(source, fmt::format("{}.{}", where, key), "is not an array");
    return value.array();
}

// The member, or the fallback if it is absent or null.
bool get_flag(const Json& object, std::string_view key, bool fallback, std::string_view source,
              std::string_view where) {
    const Json* value = object.find(key);
    if (value == nullptr || value->is_null()) return fallback;
    if (!value->is_bool()) {
        bad_field(source, fmt::format("{}.{}", where, key), "is neither true nor false");
    }
    return value->boolean();
}

bool is_set(const Json* value) {
    return value != nullptr && !value->is_null();
}

std::string type_of(const Json& component, std::string_view source, std::string_view where) {
    return require_string(component, "type", source, where);
}

int32_t checked_id(int64_t id, std::string_view source, std::string_view where) {
    if (id < 0 || id >= kMaxTokens) {
        bad_field(source, where, fmt::format("id {} is not in [0, {})", id, kMaxTokens));
    }
    return static_cast<int32_t>(id);
}

// Makes room for `id`; a token that never gets a text stays an unused one.
void extend_vocabulary(TokenizerData& data, int32_t id) {
    const auto n = std::max(data.tokens.size(), static_cast<size_t>(id) + 1);
    data.tokens.resize(n);
    data.types.resize(n, TokenType::unused);
}

void read_vocabulary(const Json& model, std::string_view source, TokenizerData& data) {
    const Json& vocabulary = require(model, "vocab", source, "model");
    if (!vocabulary.is_object()) bad_field(source, "model.vocab", "is not an object");
    for (const auto& [token, id] : vocabulary.object()) {
        const std::string where = fmt::format("model.vocab['{}']", token.substr(0, 100));
        if (!id.is_integer()) bad_field(source, where, "is not an integer");
        const int32_t index = checked_id(id.integer(), source, where);
        extend_vocabulary(data, index);
        std::string& slot = data.tokens[static_cast<size_t>(index)];
        if (!slot.empty()) {
            bad_field(source, where,
                      fmt::format("has the id {} of '{}'", index, slot.substr(0, 100)));
        }
        slot = token;
        data.types[static_cast<size_t>(index)] = TokenType::normal;
    }
}

void read_merges(const Json& model, std::string_view source, TokenizerData& data) {
    const Json::Array& merges = require_array(model, "merges", source, "model");
    data.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
        const auto where = [i] { return fmt::format("model.merges[{}]", i); };
        if (merges[i].is_string()) {
            data.merges.push_back(merges[i].string());
            continue;
        }
        const bool is_pair = merges[i].is_array() && merges[i].array().size() == 2 &&
                             merges[i].array()[0].is_string() && merges[i].array()[1].is_string();
        if (!is_pair) bad_field(source, where(), "is neither \"left right\" nor [left, right]");
        const std::string& left = merges[i].array()[0].string();
        const std::string& right = merges[i].array()[1].string();
        if (left.empty() || left.find(' ') != std::string::npos ||
            right.find(' ') != std::string::npos) {
            bad_field(source, where(), "is not spelled in the byte-level alphabet");
        }
        data.merges.push_back(fmt::format("{} {}", left, right));
    }
}

void read_model(const Json& root, std::string_view source, TokenizerData& data) {
    const Json& model = require(root, "model", source, "tokenizer");
    // Old files leave the type out; they have merges then.
    const Json* type = model.find("type");
    if (is_set(type) && (!type->is_string() || type->string() != "BPE")) {
        bad_field(source, "model.type", "only BPE is supported");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        const Json* value = model.find(key);
        if (is_set(value) && (!value->is_string() || !value->string().empty())) {
            bad_field(source, fmt::format("model.{}", key), "is not supported");
        }
    }
    const Json* dropout = model.find("dropout");
    if (is_set(dropout) && (!dropout->is_number() || dropout->number() != 0)) {
        bad_field(source, "model.dropout", "is not supported");
    }
    if (get_flag(model, "byte_fallback", false, source, "model")) {
        bad_field(source, "model.byte_fallback", "is not supported with byte-level BPE");
    }
    data.ignore_merges = get_flag(model, "ignore_merges", false, source, "model");
    read_vocabulary(model, source, data);
    read_merges(model, source, data);
    const Json* unknown = model.find("unk_token");
    if (!is_set(unknown)) return;
    if (!unknown->is_string()) bad_field(source, "model.unk_token", "is not a string");
    data.unknown = find_id(data, unknown->string());
}

void read_added_tokens(const Json& root, std::string_view source, TokenizerData& data) {
    const Json* list = root.find("added_tokens");
    if (!is_set(list)) return;
    if (!list->is_array()) bad_field(source, "added_tokens", "is not an array");
    for (size_t i = 0; i < list->array().size(); ++i) {
        const std::string where = fmt::format("added_tokens[{}]", i);
        apply_added_token(read_added_token(list->array()[i], source, where, -1), source, where,
                          data);
    }
}

// A regular expression that matches exactly `text`.
std::string regex_quoted(std::string_view text) {
    std::string regex;
    for (const char c : text) {
        if (std::string_view("\\^$.|?*+()[]{}#-&~ ").find(c) != std::string_view::npos)
            regex += '\\';
        regex += c;
    }
    return regex;
}

void read_split(const Json& step, std::string_view source, const std::string& where,
                TokenizerData& data) {
    const std::string& behavior = require_string(step, "behavior", source, where);
    if (behavior != "Isolated") {
        bad_field(source, where + ".behavior", fmt::format("{} is not supported", behavior));
    }
    const Json& pattern = require(step, "pattern", source, where);
    const Json* regex = pattern.find("Regex");
    const Json* literal = pattern.find("String");
    const Json* text = regex != nullptr ? regex : literal;
    if (text == nullptr || !text->is_string()) {
        bad_field(source, where + ".pattern", "has neither a Regex nor a String");
    }
    data.split_regexes.push_back(regex != nullptr ? text->string() : regex_quoted(text->string()));
}

void read_byte_level(const Json& step, std::string_view source, const std::string& where,
                     TokenizerData& data) {
    data.add_space_prefix = get_flag(step, "add_prefix_space", true, source, where);
    if (data.add_space_prefix && !data.split_regexes.empty()) {
        bad_field(source, where + ".add_prefix_space", "is not supported after another split");
    }
    if (get_flag(step, "use_regex", true, source, where))
        data.split_regexes.emplace_back(kGpt2Regex);
}

// Returns true once the step that maps bytes to the alphabet has been read.
bool read_pre_tokenizer(const Json& step, std::string_view source, const std::string& where,
                        TokenizerData& data) {
    const std::string type = type_of(step, source, where);
    if (type == "Sequence") {
        const Json::Array& steps = require_array(step, "pretokenizers", source, where);
        for (size_t i = 0; i < steps.size(); ++i) {
            const std::string inner = fmt::format("{}.pretokenizers[{}]", where, i);
            const bool is_last = read_pre_tokenizer(steps[i], source, inner, data);
            if (is_last && i + 1 < steps.size()) {
                bad_field(source, inner, "ByteLevel is not the last step");
            }
            if (is_last) return true;
        }
        return false;
    }
    if (type == "ByteLevel") {
        read_byte_level(step, source, where, data);
        return true;
    }
    if (type == "Split") {
        read_split(step, source, where, data);
    } else if (type == "Digits") {
        const bool is_individual = get_flag(step, "individual_digits", false, source, where);
        data.split_regexes.emplace_back(is_individual ? "\\p{N}" : "\\p{N}+");
    } else {
        bad_field(source, where + ".type", fmt::format("{} is not supported", type));
    }
    return false;
}

void read_template(const Json& processor, std::string_view source, const std::string& where,
                   TokenizerData& data) {
    const Json::Array& items = require_array(processor, "single", source, where);
    bool is_after_text = false;
    for (const Json& item : items) {
        if (item.find("Sequence") != nullptr) {
            is_after_text = true;
            continue;
        }
        const std::string item_name = where + ".single";
        const Json& token = require(item, "SpecialToken", source, item_name);
        const std::string& name = require_string(token, "id", source, item_name);
        const Json& known = require(processor, "special_tokens", source, where);
        const Json& entry = require(known, name, source, where + ".special_tokens");
        const Json::Array& ids = require_array(entry, "ids", source, where + ".special_tokens");
        bool& is_added = is_after_text ? data.add_eos : data.add_bos;
        if (is_added || ids.size() != 1 || !ids[0].is_integer()) {
            bad_field(source, item_name, "adds more than one token before or after the text");
        }
        is_added = true;
        (is_after_text ? data.eos : data.bos) = checked_id(ids[0].integer(), source, item_name);
    }
}

void read_post_processor(const Json& processor, std::string_view source, const std::string& where,
                         TokenizerData& data) {
    const std::string type = type_of(processor, source, where);
    if (type == "Sequence") {
        const Json::Array& steps = require_array(processor, "processors", source, where);
        for (size_t i = 0; i < steps.size(); ++i) {
            read_post_processor(steps[i], source, fmt::format("{}.processors[{}]", where, i), data);
        }
    } else if (type == "TemplateProcessing") {
        read_template(processor, source, where, data);
    } else if (type != "ByteLevel") {  // which only trims offsets
        bad_field(source, where + ".type", fmt::format("{} is not supported", type));
    }
}

void check_normalizer(const Json* normalizer, std::string_view source) {
    if (!is_set(normalizer)) return;
    const std::string type = type_of(*normalizer, source, "normalizer");
    if (type == "Sequence" &&
        require_array(*normalizer, "normalizers", source, "normalizer").empty()) {
        return;
    }
    bad_field(source, "normalizer.type", fmt::format("{} is not supported", type));
}

}  // namespace

int32_t find_id(const TokenizerData& data, std::string_view token) {
    const auto found = std::find(data.tokens.begin(), data.tokens.end(), token);
    return found == data.tokens.end() ? -1 : static_cast<int32_t>(found - data.tokens.begin());
}

AddedTokenSpec read_added_token(const Json& value, std::string_view source, std::string_view where,
                                int64_t id) {
    if (const Json* own_id = value.find("id")) {
        if (!own_id->is_integer()) bad_field(source, fmt::format("{}.id", where), "is no integer");
        id = own_id->integer();
    }
    AddedTokenSpec spec;
    spec.id = checked_id(id, source, where);
    spec.content = require_string(value, "content", source, where);
    spec.is_special = get_flag(value, "special", false, source, where);
    spec.rule = {.id = spec.id,
                 .lstrip = get_flag(value, "lstrip", false, source, where),
                 .rstrip = get_flag(value, "rstrip", false, source, where),
                 .single_word = get_flag(value, "single_word", false, source, where),
                 .normalized = get_flag(value, "normalized", !spec.is_special, source, where)};
    return spec;
}

void apply_added_token(const AddedTokenSpec& spec, std::string_view source, std::string_view where,
                       TokenizerData& data) {
    if (spec.content.empty()) return;  // Hugging Face ignores them
    const auto index = static_cast<size_t>(spec.id);
    extend_vocabulary(data, spec.id);
    std::string& token = data.tokens[index];
    if (token.empty()) token = spec.content;
    if (token != spec.content) {
        bad_field(source, where,
                  fmt::format("'{}' has the id {} of '{}'", spec.content.substr(0, 100), spec.id,
                              token.substr(0, 100)));
    }
    TokenType& type = data.types[index];
    if (spec.id == data.unknown) {
        type = TokenType::unknown;
    } else {
        type = spec.is_special ? TokenType::control : TokenType::user_defined;
    }
    const AddedTokenRule usual{.id = spec.id, .normalized = type == TokenType::user_defined};
    if (spec.rule == usual)
        data.added_rules.erase(spec.id);
    else
        data.added_rules[spec.id] = spec.rule;
}

bool describes_sentencepiece(const Json& tokenizer_json) {
    const Json* model = tokenizer_json.find("model");
    if (model == nullptr) return false;
    const Json* type = model->find("type");
    const Json* byte_fallback = model->find("byte_fallback");
    const bool is_unigram = type != nullptr && type->is_string() && type->string() == "Unigram";
    return is_unigram ||
           (byte_fallback != nullptr && byte_fallback->is_bool() && byte_fallback->boolean());
}

TokenizerData parse_tokenizer_json(const Json& root, std::string_view source) {
    if (!root.is_object()) bad_field(source, "tokenizer", "is not a JSON object");
    TokenizerData data;
    data.kind = TokenizerKind::byte_level_bpe;
    check_normalizer(root.find("normalizer"), source);
    read_model(root, source, data);
    read_added_tokens(root, source, data);
    pad_vocabulary(data, data.tokens.size());
    const Json& pre_tokenizer = require(root, "pre_tokenizer", source, "tokenizer");
    const bool is_byte_level = !pre_tokenizer.is_null() &&
                               read_pre_tokenizer(pre_tokenizer, source, "pre_tokenizer", data);
    if (!is_byte_level) bad_field(source, "pre_tokenizer", "has no ByteLevel step");
    if (const Json* processor = root.find("post_processor"); is_set(processor)) {
        read_post_processor(*processor, source, "post_processor", data);
    }
    return data;
}

TokenizerData tokenizer_from_tokenizer_json(const std::filesystem::path& file) {
    const MappedFile mapped = MappedFile::open(file);
    const std::string source = file.string();
    return parse_tokenizer_json(parse_json(mapped.text(), source), source);
}

}  // namespace nemo
