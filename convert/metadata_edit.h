// Changes to the keys of a planned file that the user asks for.
//
// Keys that say what the tensors are, how many and where, are not open to editing: a file that
// contradicts itself loads nowhere. What is left is checked: values against their types, chat
// templates by compiling them, tokenizer keys by building the tokenizer.
#pragma once

#include "convert/plan.h"

#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

// Applied in this order.
struct MetadataEdits {
    std::filesystem::path tokenizer;      // a Hugging Face folder; empty: keep the tokenizer
    std::filesystem::path chat_template;  // a Jinja file; empty: keep the template
    std::vector<std::string> unset;       // "KEY"
    std::vector<std::string> set;         // "KEY=VALUE", or "KEY:TYPE=VALUE" with u32, str, ...
};

// Throws Error{usage} for an edit that cannot be made, Error{bad_file} for an unusable tokenizer or
// template.
void edit_metadata(const MetadataEdits& edits, ConversionPlan& plan);

// After the edits, of a checkpoint: throws Error{bad_file} if its tokenizer cannot be used, and
// adds a warning if its chat template cannot. (What a GGUF file has of them is copied as it is.)
void check_text_keys(const std::filesystem::path& checkpoint, ConversionPlan& plan);

}  // namespace nemo
