// Statements, macros and scopes. Expressions are in evaluate.cpp.
#include "core/jinja/interpreter.h"

#include "core/jinja/builtins.h"

#include <algorithm>

namespace nemo::jinja {

class Interpreter::FrameScope {
public:
    FrameScope(Interpreter& interpreter, std::shared_ptr<Frame> frame)
        : interpreter_(interpreter), outer_(std::exchange(interpreter.frame_, std::move(frame))) {}
    ~FrameScope() { interpreter_.frame_ = std::move(outer_); }
    FrameScope(const FrameScope&) = delete;

private:
    Interpreter& interpreter_;
    std::shared_ptr<Frame> outer_;
};

namespace {

std::shared_ptr<Frame> new_frame(std::shared_ptr<Frame> parent) {
    auto frame = std::make_shared<Frame>();
    frame->parent = std::move(parent);
    return frame;
}

}  // namespace

Interpreter::Interpreter(const Template& source, Runtime& runtime)
    : template_(source), runtime_(runtime), frame_(new_frame(nullptr)) {
    for (const BuiltinEntry& entry : global_functions()) {
        Callable callable;
        callable.name = entry.name;
        callable.builtin = entry.function;
        set_variable(std::string(entry.name),
                     Value::callable(&runtime_.new_callable(std::move(callable))));
    }
}

void Interpreter::set_variable(const std::string& name, Value value) {
    const auto symbol = std::find(template_.symbols.begin(), template_.symbols.end(), name);
    if (symbol == template_.symbols.end()) return;  // the template never asks for it
    const auto index = static_cast<Symbol>(symbol - template_.symbols.begin());
    frame_->variables[index] = std::move(value);
}

TextPtr Interpreter::run() {
    const FrameScope scope(*this, new_frame(frame_));
    TextBuilder out(runtime_);
    run_body(template_.body, out);
    return out.finish();
}

Value Interpreter::find_variable(Symbol symbol) const {
    for (const Frame* frame = frame_.get(); frame; frame = frame->parent.get()) {
        const auto found = frame->variables.find(symbol);
        if (found != frame->variables.end()) return found->second;
    }
    return {};
}

void Interpreter::assign(const Target& target, Value value, Frame& frame) {
    runtime_.step();
    if (target.is_tuple) {
        runtime_.set_position(target.position);
        const std::vector<Value> items = iterate(runtime_, value);
        if (items.size() != target.elements.size()) {
            runtime_.fail("cannot unpack {} values into {} names", items.size(),
                          target.elements.size());
        }
        for (size_t i = 0; i < items.size(); ++i) assign(target.elements[i], items[i], frame);
    } else if (!target.attribute.empty()) {
        const Value object = find_variable(target.symbol);
        runtime_.set_position(target.position);
        if (!object.is(Kind::name_space)) {
            runtime_.fail("cannot assign to an attribute of '{}': it is no namespace",
                          template_.symbols[static_cast<size_t>(target.symbol)]);
        }
        object.as_namespace().attributes[target.attribute] = std::move(value);
    } else {
        frame.variables[target.symbol] = std::move(value);
    }
}

Interpreter::Flow Interpreter::run_body(const Body& body, TextBuilder& out) {
    for (const Statement& statement : body) {
        const Flow flow = run_statement(statement, out);
        if (flow != Flow::normal) return flow;
    }
    return Flow::normal;
}

Interpreter::Flow Interpreter::run_statement(const Statement& statement, TextBuilder& out) {
    const Runtime::Nesting nesting(runtime_);
    runtime_.step();
    runtime_.set_position(statement.position);
    switch (statement.kind) {
        case StatementKind::data:
            out.append(*statement.data);
            break;
        case StatementKind::print: {
            const Value value = evaluate(*statement.expression);
            runtime_.set_position(statement.position);
            append_text(runtime_, out, value);
            break;
        }
        case StatementKind::set:
            assign(statement.targets[0], evaluate(*statement.expression), *frame_);
            break;
        case StatementKind::set_block:
            assign(statement.targets[0], run_captured(statement), *frame_);
            break;
        case StatementKind::filter_block:
            append_text(runtime_, out, run_captured(statement));
            break;
        case StatementKind::if_else:
            return run_if(statement, out);
        case StatementKind::for_loop:
            return run_for(statement, out);
        case StatementKind::macro:
            frame_->variables[statement.macro->symbol] = new_macro(*statement.macro);
            break;
        case StatementKind::call_block:
            run_call_block(statement, out);
            break;
        case StatementKind::scope:
            return run_scope(statement, out);
        case StatementKind::break_loop:
            return Flow::break_loop;
        case StatementKind::continue_loop:
            return Flow::continue_loop;
    }
    return Flow::normal;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement, TextBuilder& out) {
    for (const Branch& branch : statement.branches) {
        if (!branch.condition || is_true(evaluate(*branch.condition)))
            return run_body(branch.body, out);
    }
    return Flow::normal;
}

// The elements of the iterable that pass the loop's own `if`.
std::vector<Value> Interpreter::loop_items(const Statement& statement) {
    const Value iterable = evaluate(*statement.expression);
    runtime_.set_position(statement.expression->position);
    std::vector<Value> items = iterate(runtime_, iterable);
    if (!statement.condition) return items;
    std::vector<Value> chosen;
    for (Value& item : items) {
        const FrameScope scope(*this, new_frame(frame_));
        assign(statement.targets[0], item, *frame_);
        if (is_true(evaluate(*statement.condition))) chosen.push_back(std::move(item));
    }
    return chosen;
}

Interpreter::Flow Interpreter::run_for(const Statement& statement, TextBuilder& out) {
    const auto loop = std::make_shared<Loop>();
    loop->items = loop_items(statement);
    loop->n_items = loop->items.size();
    // As in Jinja, `else` runs unless some round reached its end.
    bool has_completed_round = false;
    for (loop->index = 0; loop->index < loop->n_items; ++loop->index) {
        const FrameScope scope(*this, new_frame(frame_));
        runtime_.step();
        assign(statement.targets[0], loop->items[loop->index], *frame_);
        frame_->variables[template_.loop] = Value::loop(loop);
        const Flow flow = run_body(statement.body, out);
        if (flow == Flow::break_loop) break;
        if (flow == Flow::normal) has_completed_round = true;
    }
    loop->items.clear();
    if (has_completed_round) return Flow::normal;
    const FrameScope scope(*this, new_frame(frame_));
    return run_body(statement.else_body, out);
}

Interpreter::Flow Interpreter::run_scope(const Statement& statement, TextBuilder& out) {
    auto frame = new_frame(frame_);
    for (size_t i = 0; i < statement.targets.size(); ++i) {
        assign(statement.targets[i], evaluate(*statement.values[i]), *frame);
    }
    const FrameScope scope(*this, std::move(frame));
    return run_body(statement.body, out);
}

Value Interpreter::run_captured(const Statement& statement) {
    TextBuilder text(runtime_);
    {
        const FrameScope scope(*this, new_frame(frame_));
        run_body(statement.body, text);
    }
    captured_ = Value::text(text.finish());
    return evaluate(*statement.expression);
}

void Interpreter::run_call_block(const Statement& statement, TextBuilder& out) {
    const Value caller = new_macro(*statement.macro);
    const Value value = evaluate_call(*statement.expression, &caller);
    runtime_.set_position(statement.position);
    append_text(runtime_, out, value);
}

Value Interpreter::new_macro(const MacroDefinition& definition) {
    Callable callable;
    callable.name = definition.name;
    callable.macro = &definition;
    callable.frame = frame_;
    return Value::callable(&runtime_.new_callable(std::move(callable)));
}

Value Interpreter::call_macro(const Callable& macro, const Arguments& arguments) {
    const FrameScope scope(*this, new_frame(macro.frame));
    bind_arguments(macro, arguments, *frame_);
    TextBuilder out(runtime_);
    run_body(macro.macro->body, out);
    return Value::text(out.finish());
}

void Interpreter::bind_arguments(const Callable& macro, const Arguments& arguments, Frame& frame) {
    const MacroDefinition& definition = *macro.macro;
    const std::vector<Parameter>& parameters = definition.parameters;
    std::vector<Value> varargs;
    for (size_t i = 0; i < arguments.positional.size(); ++i) {
        if (i < parameters.size()) {
            frame.variables[parameters[i].symbol] = arguments.positional[i];
        } else if (definition.uses_varargs) {
            varargs.push_back(arguments.positional[i]);
        } else {
            runtime_.fail("the macro '{}' takes at most {} arguments, {} given", macro.name,
                          parameters.size(), arguments.positional.size());
        }
    }
    Dict* kwargs = definition.uses_kwargs ? &runtime_.new_dict() : nullptr;
    if (definition.uses_caller) frame.variables[template_.caller] = Value();
    for (const auto& [name, value] : arguments.named) {
        const auto has_name = [&wanted = name](const Parameter& parameter) {
            return parameter.name == wanted;
        };
        const auto found = std::find_if(parameters.begin(), parameters.end(), has_name);
        if (found != parameters.end()) {
            if (!frame.variables.try_emplace(found->symbol, value).second) {
                runtime_.fail("the macro '{}' got two values for '{}'", macro.name, name);
            }
        } else if (name == "caller" && definition.uses_caller) {
            frame.variables[template_.caller] = value;
        } else if (kwargs) {
            kwargs->set(text_key_code(name), Value::text(make_text(name, true)), value);
        } else {
            runtime_.fail("the macro '{}' takes no argument '{}'", macro.name, name);
        }
    }
    if (definition.uses_varargs) {
        frame.variables[template_.varargs] = runtime_.new_list(std::move(varargs), ListType::tuple);
    }
    if (kwargs) frame.variables[template_.kwargs] = Value::dict(kwargs);
    for (const Parameter& parameter : parameters) {
        if (frame.variables.contains(parameter.symbol)) continue;
        frame.variables[parameter.symbol] = optional(parameter.fallback);
    }
}

}  // namespace nemo::jinja
