// nemo-cli render: messages through a chat template, printed exactly.
#include "app/commands.h"
#include "app/engine.h"
#include "core/console.h"
#include "core/error.h"

#include <ctime>

namespace nemo {

namespace {

Json read_json(const std::string& path) {
    return parse_json(read_text_file(path), path);
}

// What templates take for granted; content they judge themselves.
Json read_messages(const std::string& path) {
    Json messages = read_json(path);
    if (!messages.is_array()) fail(ErrorCode::bad_file, "{}: not a JSON array of messages", path);
    for (size_t i = 0; i < messages.array().size(); ++i) {
        const Json& message = messages.array()[i];
        const Json* role = message.is_object() ? message.find("role") : nullptr;
        if (role == nullptr || !role->is_string())
            fail(ErrorCode::bad_file, "{}: message {} is not an object with a text as role", path,
                 i + 1);
    }
    return messages;
}

std::tm parse_time(const std::string& text) {
    std::tm time = {};
    const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
    if (end == nullptr || *end != '\0')
        fail(ErrorCode::usage, "--now is \"{}\", but a time like 2026-11-21T12:00:00 is needed",
             text);
    return time;
}

void add_kwargs(const std::string& text, TemplateInput& input) {
    if (text.empty()) return;
    Json kwargs;
    try {
        kwargs = parse_json(text, "--kwargs");
    } catch (const Error& error) {
        fail(ErrorCode::usage, "{}", error.what());
    }
    if (!kwargs.is_object()) fail(ErrorCode::usage, "--kwargs is not a JSON object: {}", text);
    for (const auto& [name, value] : kwargs.object()) {
        if (name == "add_generation_prompt" && value.is_bool())
            input.add_generation_prompt = value.boolean();
        else
            input.variables.emplace_back(name, value);
    }
}

}  // namespace

int run_render(const RenderCommand& command) {
    TemplateInput input;
    input.messages = read_messages(command.messages_file);
    if (!command.tools_file.empty()) input.tools = read_json(command.tools_file);
    input.add_generation_prompt = !command.no_generation_prompt;
    input.now = command.now.empty() ? local_now() : parse_time(command.now);
    add_kwargs(command.kwargs, input);

    TokenizerData vocabulary;
    std::string source = command.template_file;
    if (!command.model.empty()) {
        vocabulary = load_tokenizer(command.model)->data();
        source = command.model + " (chat template)";
    }
    if (!command.template_file.empty())
        vocabulary.chat_template = read_text_file(command.template_file);
    if (vocabulary.chat_template.empty())
        fail(ErrorCode::bad_file, "{}: there is no chat template", source);
    const ChatTemplate chat_template = ChatTemplate::compile(vocabulary.chat_template, source);
    write_stdout_text(plain_text(render_chat(chat_template, vocabulary, std::move(input))));
    return 0;
}

}  // namespace nemo
