#include "app/chat_prompt.h"

#include "app/reasoning.h"

#include <algorithm>

namespace nemo {

namespace {

constexpr std::string_view kThinkWord = "/think";
constexpr std::string_view kNoThinkWord = "/no_think";

std::variant<ChatTemplate, Error> compile(std::string_view text, const std::string& source) {
    if (text.empty())
        return Error(ErrorCode::bad_file,
                     fmt::format("{}: there is no chat template; use --raw or --chat-template-file", source));
    try {
        return ChatTemplate::compile(text, source);
    } catch (const Error& error) {
        return error;
    }
}

Json* content_of_newest_user_message(Json& messages) {
    if (!messages.is_array() || messages.array().empty()) return nullptr;
    Json& message = messages.array().back();
    const Json* role = message.find("role");
    if (role == nullptr || *role != Json("user")) return nullptr;
    const auto content =
        std::ranges::find(message.object(), std::string("content"), &Json::Member::first);
    if (content == message.object().end() || !content->second.is_string()) return nullptr;
    return &content->second;
}

Json one_message(std::string text) {
    return Json::Array{Json::Object{{"role", "user"}, {"content", std::move(text)}}};
}

}  // namespace

PromptRenderer::PromptRenderer(const Tokenizer& tokenizer, std::string_view template_text,
                               std::string source_name)
    : tokenizer_(tokenizer),
      template_(compile(template_text, source_name)),
      control_(ThinkingControl::none) {
    control_ = find_thinking_control();
}

ThinkingControl PromptRenderer::find_thinking_control() const {
    if (std::holds_alternative<Error>(template_)) return ThinkingControl::none;
    const TokenizerData& vocabulary = tokenizer_.data();
    const auto text = [&](std::string content, Json::Object variables) {
        TemplateInput input;
        input.messages = one_message(std::move(content));
        input.variables = std::move(variables);
        input.now = local_now();
        return plain_text(
            render_chat(std::get<ChatTemplate>(template_), vocabulary, std::move(input)));
    };
    try {
        if (text("a", {{"enable_thinking", true}}) != text("a", {{"enable_thinking", false}}))
            return ThinkingControl::variable;
        const std::string on = text("a " + std::string(kThinkWord), {});
        const std::string off = text("a " + std::string(kNoThinkWord), {});
        const bool removed =
            on.find(kThinkWord) == std::string::npos && off.find(kNoThinkWord) == std::string::npos;
        return removed && on != off ? ThinkingControl::words : ThinkingControl::none;
    } catch (const Error&) {  // a template that asks for more than one message says so when used
        return ThinkingControl::none;
    }
}

// In the newest user message, because the last such word counts.
Json PromptRenderer::with_thinking_words(Json messages, Thinking thinking) const {
    Json* content = content_of_newest_user_message(messages);
    if (content == nullptr) return messages;
    const std::string_view word = thinking == Thinking::on ? kThinkWord : kNoThinkWord;
    *content = content->string() + " " + std::string(word);
    return messages;
}

MarkedText PromptRenderer::render_text(const Json& messages, const PromptOptions& options,
                                       bool header) const {
    if (const Error* error = std::get_if<Error>(&template_)) throw *error;
    TemplateInput input;
    input.messages = messages;
    input.add_generation_prompt = header;
    input.now = options.now;
    const bool chosen = options.thinking != Thinking::automatic;
    if (chosen && control_ == ThinkingControl::variable)
        input.variables.emplace_back("enable_thinking", options.thinking == Thinking::on);
    if (chosen && control_ == ThinkingControl::words)
        input.messages = with_thinking_words(std::move(input.messages), options.thinking);
    return render_chat(std::get<ChatTemplate>(template_), tokenizer_.data(), std::move(input));
}

std::vector<int32_t> PromptRenderer::encode(const MarkedText& text) const {
    std::vector<int32_t> ids = tokenizer_.encode(text);
    // Some templates print BOS although the tokenizer adds it too; the model saw one.
    const int32_t bos = tokenizer_.data().bos;
    if (ids.size() >= 2 && bos >= 0 && ids[0] == bos && ids[1] == bos) ids.erase(ids.begin());
    return ids;
}

// How many ids a prompt has in common with another rendering; 0 if the template refuses that one.
int64_t PromptRenderer::common_length(const std::vector<int32_t>& ids, const Json& messages,
                                      const PromptOptions& options, bool header) const {
    try {
        const std::vector<int32_t> other = encode(render_text(messages, options, header));
        return std::ranges::mismatch(ids, other).in1 - ids.begin();
    } catch (const Error&) {
        return 0;
    }
}

ChatPrompt PromptRenderer::render(const Json& messages, const PromptOptions& options) const {
    const MarkedText text = render_text(messages, options, true);
    ChatPrompt prompt;
    prompt.ids = encode(text);
    if (ends_inside_thought(plain_text(text))) prompt.thought = ChatPrompt::Thought::opened;

    // The history ends where any other newest message would begin. One that starts with a newline
    // is among the tried, since that may merge with the newline before it into one token.
    int64_t history_end = std::ssize(prompt.ids);
    Json other = messages;
    if (Json* content = content_of_newest_user_message(other)) {
        for (const char* text_instead : {"a", "\nb"}) {
            *content = Json(text_instead);
            history_end = std::min(history_end, common_length(prompt.ids, other, options, true));
        }
        prompt.checkpoints.push_back(history_end);
    }
    prompt.checkpoints.push_back(common_length(prompt.ids, messages, options, false));
    std::erase_if(prompt.checkpoints,
                  [&](int64_t p) { return p <= 0 || p >= std::ssize(prompt.ids); });
    std::ranges::sort(prompt.checkpoints);
    const auto repeated = std::ranges::unique(prompt.checkpoints);
    prompt.checkpoints.erase(repeated.begin(), repeated.end());
    return prompt;
}

MarkedText render_chat(const ChatTemplate& chat_template, const TokenizerData& vocabulary,
                       TemplateInput input) {
    const auto add_token = [&](const char* name, int32_t id) {
        const bool given = std::ranges::count(input.variables, name, &Json::Member::first) > 0;
        if (!given && id >= 0)
            input.variables.emplace_back(name, vocabulary.tokens[static_cast<size_t>(id)]);
    };
    add_token("bos_token", vocabulary.bos);
    add_token("eos_token", vocabulary.eos);
    return chat_template.render(input);
}

std::tm local_now() {
    const std::time_t now = std::time(nullptr);
    std::tm local = {};
    ::localtime_r(&now, &local);
    return local;
}

}  // namespace nemo
