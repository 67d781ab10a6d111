#include "core/chat_template.h"

#include "core/jinja/builtins.h"
#include "core/jinja/interpreter.h"
#include "core/jinja/parser.h"

#include <algorithm>
#include <array>

namespace nemo {

struct ChatTemplate::Impl {
    std::string source_name;
    TemplateLimits limits;
    jinja::Template parsed;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::compile(std::string_view source_text, std::string_view source_name,
                                   const TemplateLimits& limits) {
    auto impl = std::make_unique<Impl>();
    impl->source_name = source_name;
    impl->limits = limits;
    impl->parsed = jinja::parse_template(source_text, source_name, limits.max_depth);
    return ChatTemplate(std::move(impl));
}

MarkedText ChatTemplate::render(const TemplateInput& input) const {
    constexpr std::array<std::string_view, 4> kTrusted = {"bos_token", "eos_token", "unk_token",
                                                          "pad_token"};
    jinja::Runtime runtime(impl_->limits, impl_->source_name, input.now);
    jinja::Interpreter interpreter(impl_->parsed, runtime);
    interpreter.set_variable("messages", jinja::from_json(runtime, input.messages, false));
    interpreter.set_variable("tools", jinja::from_json(runtime, input.tools, false));
    interpreter.set_variable("documents", jinja::Value::none());
    interpreter.set_variable("add_generation_prompt",
                             jinja::Value::boolean(input.add_generation_prompt));
    for (const Json::Member& variable : input.variables) {
        const bool trusted =
            std::find(kTrusted.begin(), kTrusted.end(), variable.first) != kTrusted.end();
        interpreter.set_variable(variable.first,
                                 jinja::from_json(runtime, variable.second, trusted));
    }
    return jinja::to_marked_text(*interpreter.run());
}

}  // namespace nemo
