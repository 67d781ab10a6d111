#include "app/answer_settings.h"

#include "core/error.h"

#include <array>
#include <charconv>
#include <concepts>
#include <random>
#include <utility>

namespace nemo {

namespace {

constexpr const char* kDefault = "default";

// Calls visit(name, pointer to the member, example of a value) for every setting.
template <class Visit>
void for_each_setting(const Visit& visit) {
    visit("temperature", &AnswerSettings::temperature, "0.7");
    visit("top_k", &AnswerSettings::top_k, "40");
    visit("top_p", &AnswerSettings::top_p, "0.95");
    visit("min_p", &AnswerSettings::min_p, "0.05");
    visit("repeat_penalty", &AnswerSettings::repetition_penalty, "1.1");
    visit("presence_penalty", &AnswerSettings::presence_penalty, "0");
    visit("frequency_penalty", &AnswerSettings::frequency_penalty, "0");
    visit("seed", &AnswerSettings::seed, "42");
    visit("max_tokens", &AnswerSettings::max_tokens, "500");
    visit("think", &AnswerSettings::thinking, "on, off or auto");
    visit("reasoning_budget", &AnswerSettings::reasoning_budget, "1000");
}

template <class Number>
std::optional<Number> parse_value(std::string_view text, Number) {
    Number value = {};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}
std::optional<Thinking> parse_value(std::string_view text, Thinking) {
    return thinking_from_name(text);
}

std::string value_text(Thinking value) {
    return thinking_name(value);
}
template <class Number>
std::string value_text(Number value) {
    return fmt::format("{}", value);
}

Json value_json(Thinking value) {
    return thinking_name(value);
}
Json value_json(float value) {
    return static_cast<double>(value);
}
template <std::integral Integer>
Json value_json(Integer value) {
    return int64_t{value};
}

std::optional<float> json_value(const Json& json, float) {
    if (!json.is_number()) return std::nullopt;
    return static_cast<float>(json.number());
}
std::optional<Thinking> json_value(const Json& json, Thinking) {
    return json.is_string() ? thinking_from_name(json.string()) : std::nullopt;
}
template <class Integer>
std::optional<Integer> json_value(const Json& json, Integer) {
    if (!json.is_integer() || !std::in_range<Integer>(json.integer())) return std::nullopt;
    return static_cast<Integer>(json.integer());
}

constexpr std::array<std::pair<const char*, Thinking>, 3> kThinkingNames = {
    {{"auto", Thinking::automatic}, {"on", Thinking::on}, {"off", Thinking::off}}};

}  // namespace

Thinking AnswerSettings::effective_thinking() const {
    return reasoning_budget == 0 ? Thinking::off : thinking.value_or(Thinking::automatic);
}

GenerateOptions AnswerSettings::generate_options(const SamplerParams& defaults) const {
    GenerateOptions options = {.sampling = defaults};
    SamplerParams& params = options.sampling;
    params.temperature = temperature.value_or(params.temperature);
    params.top_k = top_k.value_or(params.top_k);
    params.top_p = top_p.value_or(params.top_p);
    params.min_p = min_p.value_or(params.min_p);
    params.repetition_penalty = repetition_penalty.value_or(params.repetition_penalty);
    params.presence_penalty = presence_penalty.value_or(params.presence_penalty);
    params.frequency_penalty = frequency_penalty.value_or(params.frequency_penalty);
    const bool has_seed = seed.value_or(-1) >= 0;
    params.seed = has_seed ? static_cast<uint64_t>(*seed) : std::random_device{}();
    options.max_tokens = max_tokens.value_or(-1);
    options.reasoning_budget =
        effective_thinking() == Thinking::off ? 0 : reasoning_budget.value_or(-1);
    return options;
}

AnswerSettings merge_settings(const AnswerSettings& base, const AnswerSettings& over) {
    AnswerSettings merged = base;
    for_each_setting([&](const char*, auto member, const char*) {
        if (over.*member) merged.*member = over.*member;
    });
    return merged;
}

AnswerSettings settings_from_json(const Json& json) {
    AnswerSettings settings;
    for_each_setting([&](const char* name, auto member, const char*) {
        const Json* value = json.find(name);
        auto& field = settings.*member;
        using Value = typename std::remove_reference_t<decltype(field)>::value_type;
        if (value != nullptr) field = json_value(*value, Value{});
    });
    return settings;
}

Json::Object settings_to_json(const AnswerSettings& settings) {
    Json::Object json;
    for_each_setting([&](const char* name, auto member, const char*) {
        if (const auto& field = settings.*member) json.emplace_back(name, value_json(*field));
    });
    return json;
}

void set_setting(AnswerSettings& settings, std::string_view name, std::string_view text) {
    bool found = false;
    std::string names;
    for_each_setting([&](const char* candidate, auto member, const char* example) {
        names += (names.empty() ? "" : ", ") + std::string(candidate);
        if (name != candidate) return;
        found = true;
        auto& field = settings.*member;
        using Value = typename std::remove_reference_t<decltype(field)>::value_type;
        const std::optional<Value> value = parse_value(text, Value{});
        if (!value && text != kDefault)
            fail(ErrorCode::usage, "{} cannot be \"{}\"; possible is {}, or default", name, text,
                 example);
        field = value;
    });
    if (!found) fail(ErrorCode::usage, "there is no setting \"{}\"; there are {}", name, names);
}

void check_settings(const AnswerSettings& settings) {
    const auto check = [](const char* name, const std::optional<int64_t>& value) {
        if (value && *value < -1)
            fail(ErrorCode::usage, "{} is {}, but a number from -1 is needed", name, *value);
    };
    check("seed", settings.seed);
    check("max_tokens", settings.max_tokens);
    check("reasoning_budget", settings.reasoning_budget);
    const Sampler sampler(settings.generate_options({}).sampling);
}

std::vector<std::pair<std::string, std::string>> list_settings(const AnswerSettings& settings) {
    std::vector<std::pair<std::string, std::string>> list;
    for_each_setting([&](const char* name, auto member, const char*) {
        const auto& field = settings.*member;
        list.emplace_back(name, field ? value_text(*field) : kDefault);
    });
    return list;
}

const char* thinking_name(Thinking thinking) {
    for (const auto& [name, value] : kThinkingNames)
        if (value == thinking) return name;
    return "?";
}

std::optional<Thinking> thinking_from_name(std::string_view name) {
    for (const auto& [candidate, value] : kThinkingNames)
        if (name == candidate) return value;
    return std::nullopt;
}

}  // namespace nemo
