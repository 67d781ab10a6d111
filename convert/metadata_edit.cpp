#include "convert/metadata_edit.h"

#include "core/chat_template.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/tensor_checksums.h"
#include "core/tokenizer.h"
#include "core/utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace nemo {

namespace {

constexpr const char* kChatTemplateKey = "tokenizer.chat_template";

bool is_tokenizer_key(std::string_view key) {
    return key.starts_with("tokenizer.") || key.starts_with("nemo.tokenizer.");
}

// ---- Which keys may be edited ----

// Keys from which readers derive the number and the shapes of tensors.
bool is_shape_key(std::string_view key, std::string_view architecture) {
    if (!key.starts_with(architecture) || key.substr(architecture.size(), 1) != ".") return false;
    constexpr std::string_view kNames[] = {
        "block_count",          "embedding_length",           "feed_forward_length",
        "vocab_size",           "attention.head_count",       "attention.head_count_kv",
        "attention.key_length", "attention.value_length",     "expert_count",
        "expert_shared_count",  "expert_feed_forward_length", "expert_shared_feed_forward_length",
        "moe_latent_size",      "nextn_predict_layers"};
    const std::string_view name = key.substr(architecture.size() + 1);
    return name.starts_with("ssm.") || std::ranges::find(kNames, name) != std::end(kNames);
}

void check_editable(const std::string& key, const GgufMetadata& metadata) {
    if (key.empty() || key.size() > std::numeric_limits<uint16_t>::max() || !is_valid_utf8(key))
        fail(ErrorCode::usage, "\"{}\" cannot be a key: 1 to 65535 bytes of UTF-8 are needed",
             key.substr(0, 100));
    const std::string architecture = metadata.get_string("general.architecture", "");
    if (key == "general.architecture" || key == "general.alignment" || key.starts_with("split.") ||
        key == kTensorChecksumsKey || is_shape_key(key, architecture))
        fail(ErrorCode::usage, "key {} says what the file's tensors are and cannot be edited", key);
}

// ---- Values ----

GgufType type_from_name(std::string_view name, const std::string& edit) {
    if (name == "str") return GgufType::string;
    for (const GgufType type : {GgufType::u8, GgufType::i8, GgufType::u16, GgufType::i16,
                                GgufType::u32, GgufType::i32, GgufType::u64, GgufType::i64,
                                GgufType::f32, GgufType::f64, GgufType::boolean, GgufType::string})
        if (name == gguf_type_name(type)) return type;
    fail(ErrorCode::usage,
         "--set {}: unknown type {}; one of: u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, bool, "
         "str",
         edit, name);
}

struct IntegerRange {
    int64_t low;
    int64_t high;
};

// nullopt for a type that holds no integers.
std::optional<IntegerRange> integer_range(GgufType type) {
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    switch (type) {
        case GgufType::u8:
            return IntegerRange{0, UINT8_MAX};
        case GgufType::i8:
            return IntegerRange{INT8_MIN, INT8_MAX};
        case GgufType::u16:
            return IntegerRange{0, UINT16_MAX};
        case GgufType::i16:
            return IntegerRange{INT16_MIN, INT16_MAX};
        case GgufType::u32:
            return IntegerRange{0, UINT32_MAX};
        case GgufType::i32:
            return IntegerRange{INT32_MIN, INT32_MAX};
        case GgufType::u64:
            return IntegerRange{0, kMax};
        case GgufType::i64:
            return IntegerRange{std::numeric_limits<int64_t>::min(), kMax};
        default:
            return std::nullopt;
    }
}

// The whole text as a number.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number number = {};
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end) return std::nullopt;
    return number;
}

[[noreturn]] void wrong_value(const std::string& edit, GgufType type, std::string_view expected) {
    fail(ErrorCode::usage, "--set {}: the key is of type {}: expected {}", edit,
         gguf_type_name(type), expected);
}

GgufValue parse_value(GgufType type, const std::string& text, const std::string& edit) {
    if (const std::optional<IntegerRange> range = integer_range(type)) {
        const std::optional<int64_t> number = parse_number<int64_t>(text);
        if (!number || *number < range->low || *number > range->high)
            wrong_value(edit, type,
                        fmt::format("an integer from {} to {}", range->low, range->high));
        return {type, false, *number};
    }
    if (type == GgufType::boolean) {
        if (text != "true" && text != "false") wrong_value(edit, type, "true or false");
        return {type, false, text == "true"};
    }
    if (type == GgufType::string) {
        if (!is_valid_utf8(text)) wrong_value(edit, type, "UTF-8");
        return {type, false, text};
    }
    const double largest = type == GgufType::f32 ? double{std::numeric_limits<float>::max()}
                                                 : std::numeric_limits<double>::max();
    const std::optional<double> number = parse_number<double>(text);
    if (!number || !(std::fabs(*number) <= largest)) wrong_value(edit, type, "a finite number");
    return {type, false, *number};
}

// ---- The edits ----

// What ends an answer, as one of nemo's keys has it, follows from the keys of the tokens.
void forget_end_of_generation(const std::string& key, GgufMetadata& metadata) {
    for (const char* token : {"eos", "eot", "eom"})
        if (key == fmt::format("tokenizer.ggml.{}_token_id", token))
            metadata.erase("nemo.tokenizer.eog_ids");
}

void set_key(const std::string& edit, GgufMetadata& metadata) {
    const size_t equals = edit.find('=');
    if (equals == std::string::npos) fail(ErrorCode::usage, "--set {}: expected KEY=VALUE", edit);
    const size_t colon = edit.substr(0, equals).rfind(':');
    const bool has_type = colon != std::string::npos;
    const std::string key = edit.substr(0, has_type ? colon : equals);
    check_editable(key, metadata);
    const GgufValue* old = metadata.find(key);
    if (old != nullptr && old->is_array)
        fail(ErrorCode::usage, "--set {}: key {} is an array, only single values can be set", edit,
             key);
    if (old == nullptr && !has_type)
        fail(ErrorCode::usage,
             "--set {}: key {} is not in the file; say its type for a new key, as in {}:str={}",
             edit, key, key, edit.substr(equals + 1));
    const GgufType type =
        has_type ? type_from_name(edit.substr(colon + 1, equals - colon - 1), edit) : old->type;
    metadata.set(key, parse_value(type, edit.substr(equals + 1), edit));
    forget_end_of_generation(key, metadata);
}

void unset_key(const std::string& key, GgufMetadata& metadata) {
    check_editable(key, metadata);
    if (!metadata.contains(key)) fail(ErrorCode::usage, "--unset {}: no such key", key);
    metadata.erase(key);
    forget_end_of_generation(key, metadata);
}

void replace_tokenizer(const std::filesystem::path& directory, ConversionPlan& plan) {
    const auto table = std::ranges::find(
        plan.tensors, "token_embd.weight",
        [](const PlannedTensor& tensor) -> const std::string& { return tensor.spec.name; });
    if (table == plan.tensors.end())
        fail(ErrorCode::bad_file, "there is no tensor token_embd.weight for the tokens of {}",
             directory.string());
    TokenizerData tokenizer = tokenizer_from_hf(directory);
    const auto n_rows = static_cast<size_t>(table->spec.dims[1]);
    if (tokenizer.tokens.size() > n_rows)
        fail(ErrorCode::bad_file,
             "{}: the tokenizer has {} tokens, but tensor token_embd.weight has {} rows",
             directory.string(), tokenizer.tokens.size(), n_rows);
    pad_vocabulary(tokenizer, n_rows);
    plan.metadata.erase_if(is_tokenizer_key);
    add_tokenizer_metadata(tokenizer, plan.metadata);
}

void replace_chat_template(const std::filesystem::path& path, GgufMetadata& metadata) {
    const MappedFile file = MappedFile::open(path);
    if (file.text().empty()) fail(ErrorCode::bad_file, "{}: is empty", file.path());
    if (!is_valid_utf8(file.text())) fail(ErrorCode::bad_file, "{}: not UTF-8", file.path());
    ChatTemplate::compile(file.text(), file.path());
    metadata.set_string(kChatTemplateKey, std::string(file.text()));
}

// Only what was edited: an input may bring a tokenizer that nemo cannot read.
void check_tokenizer(const GgufMetadata& metadata) {
    const std::string chat_template = metadata.get_string(kChatTemplateKey, "");
    if (!chat_template.empty()) ChatTemplate::compile(chat_template, kChatTemplateKey);
    if (metadata.contains("tokenizer.ggml.model"))
        Tokenizer::create(tokenizer_from_gguf(metadata), "the edited tokenizer");
}

}  // namespace

void edit_metadata(const MetadataEdits& edits, ConversionPlan& plan) {
    if (!edits.tokenizer.empty()) replace_tokenizer(edits.tokenizer, plan);
    if (!edits.chat_template.empty()) replace_chat_template(edits.chat_template, plan.metadata);
    for (const std::string& key : edits.unset) unset_key(key, plan.metadata);
    for (const std::string& edit : edits.set) set_key(edit, plan.metadata);
    const auto is_of_tokenizer = [](const std::string& edit) { return is_tokenizer_key(edit); };
    if (!edits.tokenizer.empty() || std::ranges::any_of(edits.unset, is_of_tokenizer) ||
        std::ranges::any_of(edits.set, is_of_tokenizer))
        check_tokenizer(plan.metadata);
}

void check_text_keys(const std::filesystem::path& checkpoint, ConversionPlan& plan) {
    Tokenizer::create(tokenizer_from_gguf(plan.metadata), checkpoint.string());
    const std::string chat_template = plan.metadata.get_string(kChatTemplateKey, "");
    if (chat_template.empty()) return;
    try {
        ChatTemplate::compile(chat_template, "chat template");
    } catch (const Error& error) {
        plan.warnings.push_back(
            fmt::format("nemo cannot use the {}; --chat-template takes another one", error.what()));
    }
}

}  // namespace nemo
