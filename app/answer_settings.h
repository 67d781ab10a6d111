// How a model is to answer, as far as somebody chose: on the command line, with /set in a chat, in
// a chat's stored settings. One list of names serves them all.
#pragma once

#include "app/chat_prompt.h"
#include "app/engine.h"
#include "core/json.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo {

// Unset: what the model's makers advise, else the common default.
struct AnswerSettings {
    std::optional<float> temperature;
    std::optional<int32_t> top_k;
    std::optional<float> top_p;
    std::optional<float> min_p;
    std::optional<float> repetition_penalty;
    std::optional<float> presence_penalty;
    std::optional<float> frequency_penalty;
    std::optional<int64_t> seed;        // -1: a new one for every answer, as when unset
    std::optional<int64_t> max_tokens;  // -1: no limit, as when unset
    std::optional<Thinking> thinking;
    std::optional<int64_t> reasoning_budget;  // tokens, -1: no limit, 0: no thinking

    // No thinking is asked for in both ways, so that it holds for every template.
    Thinking effective_thinking() const;
    GenerateOptions generate_options(const SamplerParams& defaults) const;
};

// What `over` has set, else what `base` has.
AnswerSettings merge_settings(const AnswerSettings& base, const AnswerSettings& over);

// Members by name; unknown or unfitting ones are skipped, since a newer nemo may have written them.
AnswerSettings settings_from_json(const Json& json);
// Only what is set.
Json::Object settings_to_json(const AnswerSettings& settings);

// Sets one by name from text; "default" unsets it. Throws Error{usage} naming what is possible.
void set_setting(AnswerSettings& settings, std::string_view name, std::string_view text);
// Throws Error{usage} naming a value that is out of range: before it is kept, and every answer
// fails.
void check_settings(const AnswerSettings& settings);
// All names with their values as text, "default" where unset.
std::vector<std::pair<std::string, std::string>> list_settings(const AnswerSettings& settings);

const char* thinking_name(Thinking thinking);
std::optional<Thinking> thinking_from_name(std::string_view name);

}  // namespace nemo
