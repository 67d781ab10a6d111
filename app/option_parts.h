// Pieces that nemo-cli's command lines are made of.
#pragma once

#include "app/load_model.h"
#include "core/tensor.h"
#include "kernels/kv_cache.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace nemo {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// A whole number in decimal, from `low` to `high`. CLI11's own conversion takes what is too large
// for the largest number there is.
CLI::Validator whole_number(int64_t low, int64_t high = kNoLimit);

// Any number; whether it is in range is said by whom it is for.
CLI::Validator real_number();

// `what` is given so, in the words of --help: "prompt".
void add_prompt_options(CLI::App& app, const std::string& what, std::optional<std::string>& prompt,
                        std::string& file);
CLI::Option* add_model_option(CLI::App& app, std::string& model);
void add_chats_option(CLI::App& app, std::string& file);
void add_thread_option(CLI::App& app, int& threads);
void add_load_options(CLI::App& app, LoadOptions& options);
void add_cache_options(CLI::App& app, KvTypes& types);

}  // namespace nemo
