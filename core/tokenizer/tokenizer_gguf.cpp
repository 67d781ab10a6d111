// The vocabulary in GGUF metadata. Standard keys are written as llama.cpp reads them; what they
// cannot say exactly goes into nemo.tokenizer.* keys, which are preferred when a file is read back.
#include "core/error.h"
#include "core/gguf.h"
#include "core/model_file.h"
#include "core/tokenizer/tokenizer_pre.h"
#include "core/tokenizer_data.h"

#include <algorithm>
#include <limits>

namespace nemo {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kBos = "tokenizer.ggml.bos_token_id";
constexpr const char* kEos = "tokenizer.ggml.eos_token_id";
constexpr const char* kEot = "tokenizer.ggml.eot_token_id";
constexpr const char* kEom = "tokenizer.ggml.eom_token_id";
constexpr const char* kUnknown = "tokenizer.ggml.unknown_token_id";
constexpr const char* kPadding = "tokenizer.ggml.padding_token_id";
constexpr const char* kAddBos = "tokenizer.ggml.add_bos_token";
constexpr const char* kAddEos = "tokenizer.ggml.add_eos_token";
constexpr const char* kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";
constexpr const char* kRemoveWhitespaces = "tokenizer.ggml.remove_extra_whitespaces";
constexpr const char* kCharsmap = "tokenizer.ggml.precompiled_charsmap";
constexpr const char* kChatTemplate = "tokenizer.chat_template";
// A string, or an array of strings for several patterns in a row; none is the empty array.
constexpr const char* kOurRegex = "nemo.tokenizer.regex";
constexpr const char* kOurIgnoreMerges = "nemo.tokenizer.ignore_merges";
constexpr const char* kOurEog = "nemo.tokenizer.eog_ids";
// Five integers per rule: id, lstrip, rstrip, single_word, normalized.
constexpr const char* kOurRules = "nemo.tokenizer.added_rules";
constexpr size_t kRuleLength = 5;
// Looked through for every id added to them, and for every token of an answer.
constexpr size_t kMaxEnds = 1024;

// Texts that end an answer wherever they are control tokens.
constexpr const char* kEndTexts[] = {"<|im_end|>",    "<|eot_id|>", "<end_of_turn>", "<|end|>",
                                     "<|endoftext|>", "<|eom_id|>", "</s>",          "<EOT>"};

int32_t to_id(int64_t value, const char* key, const GgufMetadata& metadata) {
    const auto n_tokens = static_cast<int64_t>(metadata.get_strings(kTokens).size());
    // Converters write 2^32 - 1 for "none".
    if (value == -1 || value == std::numeric_limits<uint32_t>::max()) return -1;
    if (value < 0 || value >= n_tokens) {
        fail(ErrorCode::bad_file, "{}: {} = {} is not in the vocabulary of {} tokens",
             metadata.source(), key, value, n_tokens);
    }
    return static_cast<int32_t>(value);
}

int32_t get_id(const GgufMetadata& metadata, const char* key, int64_t fallback = -1) {
    return to_id(metadata.get_integer(key, fallback), key, metadata);
}

void add_end_of_generation(TokenizerData& data, int32_t id) {
    auto& ids = data.end_of_generation;
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

void read_tokens(const GgufMetadata& metadata, TokenizerData& data) {
    data.tokens = metadata.get_strings(kTokens);
    if (!metadata.contains(kTypes)) {
        data.types.assign(data.tokens.size(), TokenType::normal);
        return;
    }
    for (const int64_t type : metadata.get_integers(kTypes)) {
        if (type < 1 || type > 6) {
            fail(ErrorCode::bad_file, "{}: {}[{}] is {}, known are 1 to 6", metadata.source(),
                 kTypes, data.types.size(), type);
        }
        data.types.push_back(static_cast<TokenType>(type));
    }
    if (data.types.size() != data.tokens.size()) {
        fail(ErrorCode::bad_file, "{}: {} has {} elements for {} tokens", metadata.source(), kTypes,
             data.types.size(), data.tokens.size());
    }
}

void read_bpe(const GgufMetadata& metadata, TokenizerData& data) {
    data.kind = TokenizerKind::byte_level_bpe;
    data.merges = metadata.get_strings(kMerges);
    const std::string architecture = metadata.get_string("general.architecture", "");
    const std::string name =
        architecture.starts_with("nemotron_h") ? "tekken" : metadata.get_string(kPre, "default");
    const std::optional<NamedSplit> named = split_of_name(name);
    if (const GgufValue* regex = metadata.find(kOurRegex); regex == nullptr) {
        if (!named) {
            fail(ErrorCode::bad_file, "{}: {} = '{}' is not a split that nemo knows",
                 metadata.source(), kPre, name);
        }
        data.split_regexes.emplace_back(named->regex);
    } else if (regex->is_array) {
        data.split_regexes = metadata.get_strings(kOurRegex);
    } else {
        data.split_regexes.push_back(metadata.get_string(kOurRegex));
    }
    data.ignore_merges = metadata.get_bool(kOurIgnoreMerges, named && named->ignore_merges);
    data.add_bos = metadata.get_bool(kAddBos, named && named->add_bos);
    data.add_space_prefix = metadata.get_bool(kAddSpacePrefix, false);
    if (!metadata.contains(kOurRules)) return;
    const std::vector<int64_t>& rules = metadata.get_integers(kOurRules);
    if (rules.size() % kRuleLength != 0) {
        fail(ErrorCode::bad_file, "{}: {} has {} elements, not a multiple of {}", metadata.source(),
             kOurRules, rules.size(), kRuleLength);
    }
    for (size_t i = 0; i < rules.size(); i += kRuleLength) {
        const int32_t id = to_id(rules[i], kOurRules, metadata);
        data.added_rules[id] = {.id = id,
                                .lstrip = rules[i + 1] != 0,
                                .rstrip = rules[i + 2] != 0,
                                .single_word = rules[i + 3] != 0,
                                .normalized = rules[i + 4] != 0};
    }
}

void read_sentencepiece(const GgufMetadata& metadata, TokenizerData& data) {
    data.kind = TokenizerKind::sentencepiece;
    for (const double score : metadata.get_reals(kScores)) {
        data.scores.push_back(static_cast<float>(score));
    }
    data.add_space_prefix = metadata.get_bool(kAddSpacePrefix, true);
    data.remove_extra_whitespaces = metadata.get_bool(kRemoveWhitespaces, false);
    data.add_bos = metadata.get_bool(kAddBos, !data.unigram);
    if (!metadata.contains(kCharsmap)) return;
    for (const int64_t byte : metadata.get_integers(kCharsmap)) {
        data.precompiled_charsmap += static_cast<char>(byte & 0xFF);
    }
}

void read_special_ids(const GgufMetadata& metadata, TokenizerData& data) {
    const bool has_defaults = data.kind == TokenizerKind::sentencepiece && !data.unigram;
    const auto or_none = [&](int64_t id) {
        return has_defaults && id < static_cast<int64_t>(data.tokens.size()) ? id : -1;
    };
    data.bos = get_id(metadata, kBos, or_none(1));
    data.eos = get_id(metadata, kEos, or_none(2));
    data.unknown = get_id(metadata, kUnknown, or_none(0));
    data.padding = get_id(metadata, kPadding);
    if (!metadata.contains(kTypes)) {
        for (const int32_t id : {data.bos, data.eos, data.padding}) {
            if (id >= 0) data.types[static_cast<size_t>(id)] = TokenType::control;
        }
        if (data.unknown >= 0) data.types[static_cast<size_t>(data.unknown)] = TokenType::unknown;
    }
    if (metadata.contains(kOurEog)) {
        const std::vector<int64_t>& ids = metadata.get_integers(kOurEog);
        if (ids.size() > kMaxEnds) {
            fail(ErrorCode::bad_file, "{}: {} has {} ids, the limit is {}", metadata.source(),
                 kOurEog, ids.size(), kMaxEnds);
        }
        for (const int64_t id : ids) add_end_of_generation(data, to_id(id, kOurEog, metadata));
        return;
    }
    for (const char* key : {kEos, kEot, kEom}) add_end_of_generation(data, get_id(metadata, key));
    add_end_of_generation(data, data.eos);
    for (size_t id = 0; id < data.tokens.size(); ++id) {
        if (data.types[id] == TokenType::control &&
            std::ranges::count(kEndTexts, data.tokens[id]) > 0) {
            add_end_of_generation(data, static_cast<int32_t>(id));
        }
    }
}

void set_id(GgufMetadata& metadata, const char* key, int32_t id) {
    if (id >= 0) metadata.set_u32(key, static_cast<uint32_t>(id));
}

void add_bpe_metadata(const TokenizerData& data, GgufMetadata& metadata) {
    metadata.set_string(kModel, "gpt2");
    const bool has_one = data.split_regexes.size() == 1;
    metadata.set_string(kPre, has_one ? name_of_split(data.split_regexes.front()) : "default");
    metadata.set_string_array(kMerges, data.merges);
    if (has_one) {
        metadata.set_string(kOurRegex, data.split_regexes.front());
    } else {
        metadata.set_string_array(kOurRegex, data.split_regexes);
    }
    metadata.set_bool(kOurIgnoreMerges, data.ignore_merges);
    if (data.add_space_prefix) metadata.set_bool(kAddSpacePrefix, true);
    std::vector<int32_t> rules;
    for (const auto& [id, rule] : data.added_rules) {
        for (const int32_t value : {id, int32_t{rule.lstrip}, int32_t{rule.rstrip},
                                    int32_t{rule.single_word}, int32_t{rule.normalized}}) {
            rules.push_back(value);
        }
    }
    if (!rules.empty()) metadata.set_i32_array(kOurRules, rules);
}

void add_sentencepiece_metadata(const TokenizerData& data, GgufMetadata& metadata) {
    metadata.set_string(kModel, data.unigram ? "t5" : "llama");
    metadata.set_string(kPre, "default");
    metadata.set_f32_array(kScores, data.scores);
    metadata.set_bool(kAddSpacePrefix, data.add_space_prefix);
    metadata.set_bool(kRemoveWhitespaces, data.remove_extra_whitespaces);
    if (data.precompiled_charsmap.empty()) return;
    GgufValue charsmap{.type = GgufType::u8, .is_array = true, .value = {}};
    auto& bytes = charsmap.value.emplace<std::vector<int64_t>>();
    for (const char c : data.precompiled_charsmap) bytes.push_back(static_cast<uint8_t>(c));
    metadata.set(kCharsmap, std::move(charsmap));
}

}  // namespace

TokenizerData tokenizer_from_gguf(const ModelFile& file) {
    return tokenizer_from_gguf(file.metadata());
}

TokenizerData tokenizer_from_gguf(const GgufMetadata& metadata) {
    TokenizerData data;
    const std::string& model = metadata.get_string(kModel);
    read_tokens(metadata, data);
    if (model == "gpt2") {
        read_bpe(metadata, data);
    } else if (model == "llama" || model == "t5") {
        data.unigram = model == "t5";
        read_sentencepiece(metadata, data);
    } else {
        fail(ErrorCode::bad_file, "{}: {} = '{}' is not supported (gpt2, llama and t5 are)",
             metadata.source(), kModel, model);
    }
    data.add_eos = metadata.get_bool(kAddEos, data.unigram);
    read_special_ids(metadata, data);
    // The defaults for these flags may come without the token that they need.
    if (!metadata.contains(kAddBos) && data.bos < 0) data.add_bos = false;
    if (!metadata.contains(kAddEos) && data.eos < 0) data.add_eos = false;
    data.chat_template = metadata.get_string(kChatTemplate, "");
    return data;
}

void add_tokenizer_metadata(const TokenizerData& data, GgufMetadata& metadata) {
    if (data.kind == TokenizerKind::byte_level_bpe) {
        add_bpe_metadata(data, metadata);
    } else {
        add_sentencepiece_metadata(data, metadata);
    }
    metadata.set_string_array(kTokens, data.tokens);
    std::vector<int32_t> types;
    for (const TokenType type : data.types) types.push_back(static_cast<int32_t>(type));
    metadata.set_i32_array(kTypes, types);
    set_id(metadata, kBos, data.bos);
    set_id(metadata, kEos, data.eos);
    set_id(metadata, kUnknown, data.unknown);
    set_id(metadata, kPadding, data.padding);
    // llama.cpp stops at eos and eot only, so a second way to end an answer goes there.
    for (const int32_t id : data.end_of_generation) {
        if (id == data.eos) continue;
        set_id(metadata, kEot, id);
        break;
    }
    metadata.set_i32_array(kOurEog, data.end_of_generation);
    metadata.set_bool(kAddBos, data.add_bos);
    metadata.set_bool(kAddEos, data.add_eos);
    if (!data.chat_template.empty()) metadata.set_string(kChatTemplate, data.chat_template);
}

}  // namespace nemo
