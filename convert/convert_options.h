// nemo-convert's command line.
#pragma once

#include <string>
#include <variant>
#include <vector>

namespace nemo {

struct ConvertCommand {
    std::string input;
    std::string output;
    std::string type_name;   // empty: not given
    std::string importance;  // a file
    std::string fit;
    double bits_per_weight = 0;             // 0: not given
    std::vector<std::string> tensor_types;  // "NAME=TYPE"
    std::string max_part_size;
    std::string tokenizer;
    std::string chat_template;
    std::vector<std::string> set;
    std::vector<std::string> unset;
    int n_threads = 0;
    bool force = false;
    bool resume = false;
    bool dry_run = false;
    bool no_mtp = false;
};

struct InspectCommand {
    std::string file;
    bool json = false;
};

struct VerifyCommand {
    std::string file;
    std::string checkpoint;
    int n_threads = 0;
};

// Text for stdout instead of work: --help, --version.
struct PrintCommand {
    std::string text;
};

using ConverterCommand = std::variant<ConvertCommand, InspectCommand, VerifyCommand, PrintCommand>;

// Throws Error{usage}.
ConverterCommand parse_converter_command(int argc, const char* const* argv);

}  // namespace nemo
