#include "app/option_parts.h"

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <charconv>

namespace nemo {

namespace {

std::string quoted(const std::string& text) {
    return "\"" + text + "\"";
}

}  // namespace

// Without the limits in --help, where they would hide the text.
CLI::Validator whole_number(int64_t low, int64_t high) {
    const std::string range = high == kNoLimit
                                  ? fmt::format("a whole number from {} on", low)
                                  : fmt::format("a whole number from {} to {}", low, high);
    return {[=](const std::string& text) {
                int64_t value = 0;
                const char* const end = text.data() + text.size();
                const auto [stop, error] = std::from_chars(text.data(), end, value);
                const bool fits =
                    error == std::errc() && stop == end && value >= low && value <= high;
                return fits ? "" : quoted(text) + " is not " + range;
            },
            ""};
}

CLI::Validator real_number() {
    return {[](const std::string& text) {
                double value = 0;
                const char* const end = text.data() + text.size();
                const auto [stop, error] = std::from_chars(text.data(), end, value);
                return error == std::errc() && stop == end ? "" : quoted(text) + " is not a number";
            },
            ""};
}

void add_prompt_options(CLI::App& app, const std::string& what, std::optional<std::string>& prompt,
                        std::string& file) {
    app.add_option("-p,--prompt", prompt, "The " + what)->type_name("TEXT");
    app.add_option("-f,--file", file, "Read the " + what + " from a file (- is standard input)")
        ->type_name("FILE");
}

CLI::Option* add_model_option(CLI::App& app, std::string& model) {
    return app.add_option("-m,--model", model, "The model, a GGUF file")->type_name("FILE");
}

void add_chats_option(CLI::App& app, std::string& file) {
    app.add_option("--chats", file, "The file with the chats, instead of the usual one")
        ->type_name("FILE");
}

void add_thread_option(CLI::App& app, int& threads) {
    app.add_option("-t,--threads", threads, "Threads (0: one per core)")
        ->check(whole_number(0, 1024))
        ->type_name("N");
}

void add_load_options(CLI::App& app, LoadOptions& options) {
    app.add_flag("--preload", options.preload, "Read the whole model in before starting");
    app.add_flag("--mlock", options.lock, "The same, and keep it in memory");
}

void add_cache_options(CLI::App& app, KvTypes& types) {
    const auto add = [&](const char* name, DType& type, const char* help) {
        const auto set = [&type](const std::string& value) {
            type = value == "f32" ? DType::f32 : value == "f16" ? DType::f16 : DType::q8_0;
        };
        app.add_option_function<std::string>(name, set, help)
            ->check(CLI::IsMember({"f32", "f16", "q8_0"}).description(""))
            ->type_name("TYPE");
    };
    add("--cache-type-k", types.keys, "Keep keys as f32, f16 (default) or q8_0 (also -ctk)");
    add("--cache-type-v", types.values, "Keep values as f32, f16 (default) or q8_0 (also -ctv)");
}

}  // namespace nemo
