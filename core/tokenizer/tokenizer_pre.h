// Split patterns that have a name in GGUF files (`tokenizer.ggml.pre`).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemo {

// Hugging Face's ByteLevel pre-tokenizer.
extern const char* const kGpt2Regex;

struct NamedSplit {
    std::string_view regex;
    bool ignore_merges;  // llama.cpp ties these two to the name
    bool add_bos;
};

// What a file without our own keys means by a name; nothing if the name is not known.
std::optional<NamedSplit> split_of_name(std::string_view name);

// The name that makes llama.cpp split most like `regex`.
std::string name_of_split(std::string_view regex);

}  // namespace nemo
