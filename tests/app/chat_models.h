// The bundled model dressed as others: their names of the role markers and their chat templates.
// The weights know neither, so its answers are nonsense, but every token is where it belongs.
#pragma once

#include "convert/convert.h"
#include "core/error.h"
#include "tests/temp_folder.h"

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nemo {

enum class ChatFormat { demo, nano_v2, nemotron_3 };
inline constexpr ChatFormat kChatFormats[] = {ChatFormat::demo, ChatFormat::nano_v2,
                                              ChatFormat::nemotron_3};

inline const char* chat_format_name(ChatFormat format) {
    return format == ChatFormat::demo      ? "demo"
           : format == ChatFormat::nano_v2 ? "nano_v2"
                                           : "nemotron_3";
}

// Ours that does what the published one does, or that one itself: it is not part of the project,
// but may lie beside the checkout.
inline std::string format_template(ChatFormat format) {
    if (format == ChatFormat::demo)
        return read_file(NEMO_SOURCE_DIR "/assets/demo/chat_template.jinja");
    const std::string folder = NEMO_SOURCE_DIR "/../shared/data/templates/";
    const char* name = format == ChatFormat::nano_v2 ? "NVIDIA-Nemotron-Nano-v2.jinja"
                                                     : "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja";
    const std::string published = read_file(folder + name);
    if (!published.empty()) return published;
    return read_file(NEMO_SOURCE_DIR "/tests/data/templates/" +
                     std::string(chat_format_name(format)) + ".jinja");
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}

inline std::string format_tokenizer(ChatFormat format, std::string json) {
    if (format == ChatFormat::nano_v2)
        return replaced(replaced(std::move(json), "<|im_start|>", "<SPECIAL_10>"), "<|im_end|>",
                        "<SPECIAL_11>");
    // Marks of thoughts are one token each, and not control tokens.
    for (const auto& [from, to] :
         {std::pair{"<SPECIAL_12>", "<think>"}, std::pair{"<SPECIAL_13>", "</think>"}}) {
        json = replaced(std::move(json), from, to);
        const size_t token = json.find("\"content\": \"" + std::string(to));
        const size_t special = json.find("\"special\": true", token);
        NEMO_ASSERT(special != std::string::npos);
        json.replace(special, 15, "\"special\": false");
    }
    return json;
}

// A GGUF file, made once per format for the whole test program.
inline std::string chat_model(ChatFormat format) {
    namespace fs = std::filesystem;
    static const TempFolder folder;
    static std::map<ChatFormat, std::string> paths;
    std::string& path = paths[format];
    if (!path.empty()) return path;
    const std::string name = chat_format_name(format);
    const fs::path checkpoint = folder / name;
    fs::copy(NEMO_SOURCE_DIR "/assets/demo", checkpoint);
    if (format != ChatFormat::demo) {
        for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
            write_file(checkpoint / file, format_tokenizer(format, read_file(checkpoint / file)));
        write_file(checkpoint / "chat_template.jinja", format_template(format));
    }
    path = (folder / (name + ".gguf")).string();
    write_model(make_plan(checkpoint, DType::q8_0), path, 2, [](const ConvertProgress&) {});
    return path;
}

}  // namespace nemo
