#include "core/tokenizer/tokenizer_pre.h"

#include "core/tokenizer_data.h"

namespace nemo {
namespace {

constexpr const char* kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

const char* const kTekkenRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char* const kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::optional<NamedSplit> split_of_name(std::string_view name) {
    // "pixtral" is what llama.cpp's converter calls the tekken vocabulary when no BOS is added.
    if (name == "tekken" || name == "pixtral") return NamedSplit{kTekkenRegex, true, true};
    if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
        return NamedSplit{kLlama3Regex, true, true};
    }
    if (name == "qwen2") return NamedSplit{kQwen2Regex, false, false};
    if (name == "gpt-2" || name == "default") return NamedSplit{kGpt2Regex, false, false};
    return std::nullopt;
}

std::string name_of_split(std::string_view regex) {
    for (const char* name : {"tekken", "llama-bpe", "qwen2", "gpt-2"}) {
        if (split_of_name(name)->regex == regex) return name;
    }
    return "default";
}

}  // namespace nemo
