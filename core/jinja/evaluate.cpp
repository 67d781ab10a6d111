// The interpreter's expressions.
#include "core/jinja/builtins.h"
#include "core/jinja/interpreter.h"
#include "core/jinja/operators.h"

namespace nemo::jinja {
namespace {

// A name for messages: "message.content".
std::string describe(const Expression& node) {
    switch (node.kind) {
        case ExpressionKind::name:
            return "'" + node.text + "'";
        case ExpressionKind::attribute:
            return "the attribute '" + node.text + "'";
        case ExpressionKind::item:
            return "the item";
        default:
            return "the value";
    }
}

}  // namespace

Value Interpreter::evaluate(const Expression& node) {
    const Runtime::Nesting nesting(runtime_);
    runtime_.step();
    switch (node.kind) {
        case ExpressionKind::constant:
            return node.constant;
        case ExpressionKind::captured:
            return captured_;
        case ExpressionKind::name:
            return find_variable(node.symbol);
        case ExpressionKind::tuple:
        case ExpressionKind::list:
            return evaluate_sequence(node);
        case ExpressionKind::dict:
            return evaluate_dict(node);
        case ExpressionKind::logical_and:
        case ExpressionKind::logical_or:
            return evaluate_logical(node);
        case ExpressionKind::compare:
            return evaluate_compare(node);
        case ExpressionKind::concat:
            return evaluate_concat(node);
        case ExpressionKind::attribute:
        case ExpressionKind::item:
            return evaluate_access(node);
        case ExpressionKind::call:
            return evaluate_call(node);
        case ExpressionKind::filter:
        case ExpressionKind::test:
            return evaluate_builtin(node);
        default:
            return evaluate_operator(node);
    }
}

Value Interpreter::evaluate_operator(const Expression& node) {
    if (node.kind == ExpressionKind::conditional) {
        const bool condition = is_true(evaluate(*node.operands[1]));
        return optional(node.operands[condition ? 0 : 2]);
    }
    const Value first = evaluate(*node.operands[0]);
    if (node.kind == ExpressionKind::logical_not) return Value::boolean(!is_true(first));
    if (node.kind == ExpressionKind::slice) {
        const Value start = optional(node.operands[1]);
        const Value stop = optional(node.operands[2]);
        const Value step = optional(node.operands[3]);
        runtime_.set_position(node.position);
        check_defined(*node.operands[0], first, "slice");
        return slice(runtime_, first, start, stop, step);
    }
    const Value second =
        node.kind == ExpressionKind::binary ? evaluate(*node.operands[1]) : Value();
    runtime_.set_position(node.position);
    check_defined(*node.operands[0], first, "compute with");
    if (node.kind == ExpressionKind::negate) return negate(runtime_, first);
    if (node.kind == ExpressionKind::plus) return unary_plus(runtime_, first);
    check_defined(*node.operands[1], second, "compute with");
    return binary_operation(runtime_, node.operators[0], first, second);
}

Value Interpreter::evaluate_sequence(const Expression& node) {
    std::vector<Value> items;
    items.reserve(node.operands.size());
    for (const ExpressionPtr& operand : node.operands) items.push_back(evaluate(*operand));
    const bool is_tuple = node.kind == ExpressionKind::tuple;
    return runtime_.new_list(std::move(items), is_tuple ? ListType::tuple : ListType::list);
}

Value Interpreter::evaluate_dict(const Expression& node) {
    Dict& dict = runtime_.new_dict();
    for (size_t i = 0; i < node.operands.size(); i += 2) {
        Value key = evaluate(*node.operands[i]);
        Value value = evaluate(*node.operands[i + 1]);
        runtime_.set_position(node.operands[i]->position);
        std::string code = key_code(runtime_, key);
        dict.set(std::move(code), std::move(key), std::move(value));
    }
    return Value::dict(&dict);
}

Value Interpreter::evaluate_logical(const Expression& node) {
    const bool stops_at = node.kind == ExpressionKind::logical_or;
    Value value;
    for (const ExpressionPtr& operand : node.operands) {
        value = evaluate(*operand);
        if (is_true(value) == stops_at) break;
    }
    return value;
}

Value Interpreter::evaluate_compare(const Expression& node) {
    Value left = evaluate(*node.operands[0]);
    for (size_t i = 0; i < node.operators.size(); ++i) {
        Value right = evaluate(*node.operands[i + 1]);
        runtime_.set_position(node.position);
        if (!comparison(runtime_, node.operators[i], left, right)) return Value::boolean(false);
        left = std::move(right);
    }
    return Value::boolean(true);
}

Value Interpreter::evaluate_concat(const Expression& node) {
    TextBuilder builder(runtime_);
    for (const ExpressionPtr& operand : node.operands) {
        const Value value = evaluate(*operand);
        runtime_.set_position(node.position);
        append_text(runtime_, builder, value);
    }
    return Value::text(builder.finish());
}

Value Interpreter::evaluate_access(const Expression& node) {
    const Value object = evaluate(*node.operands[0]);
    if (node.kind == ExpressionKind::attribute) {
        runtime_.set_position(node.position);
        check_defined(*node.operands[0], object, "look into");
        return get_attribute(runtime_, object, node.text);
    }
    const Value key = evaluate(*node.operands[1]);
    runtime_.set_position(node.position);
    check_defined(*node.operands[0], object, "look into");
    return get_item(runtime_, object, key);
}

void Interpreter::check_defined(const Expression& node, const Value& value,
                                std::string_view action) {
    if (value.is_undefined())
        runtime_.fail("cannot {} {}: it is undefined", action, describe(node));
}

Arguments Interpreter::evaluate_arguments(const Expression& node) {
    Arguments arguments;
    for (const ExpressionPtr& value : node.positional)
        arguments.positional.push_back(evaluate(*value));
    for (const auto& [name, value] : node.named)
        arguments.named.emplace_back(name, evaluate(*value));
    return arguments;
}

Value Interpreter::evaluate_builtin(const Expression& node) {
    const Value subject = evaluate(*node.operands[0]);
    const Arguments arguments = evaluate_arguments(node);
    runtime_.set_position(node.position);
    return node.builtin(runtime_, subject, arguments);
}

Value Interpreter::evaluate_call(const Expression& node, const Value* caller) {
    const Expression& callee = *node.operands[0];
    const auto arguments_with_caller = [&] {
        Arguments arguments = evaluate_arguments(node);
        if (caller) arguments.named.emplace_back("caller", *caller);
        return arguments;
    };
    // A method is called in place, without making an object of it first.
    if (callee.kind == ExpressionKind::attribute) {
        const Value object = evaluate(*callee.operands[0]);
        runtime_.set_position(callee.position);
        check_defined(*callee.operands[0], object, "call a method of");
        const Builtin method = find_method(object, callee.text);
        const Value function = method ? Value() : get_attribute(runtime_, object, callee.text);
        const Arguments arguments = arguments_with_caller();
        runtime_.set_position(callee.position);
        if (method) return method(runtime_, object, arguments);
        if (function.is_undefined()) {
            runtime_.fail("there is no method '{}' of {}", callee.text, type_name(object));
        }
        return call(function, arguments, callee);
    }
    const Value function = evaluate(callee);
    const Arguments arguments = arguments_with_caller();
    runtime_.set_position(node.position);
    return call(function, arguments, callee);
}

Value Interpreter::call(const Value& callee, const Arguments& arguments, const Expression& node) {
    check_defined(node, callee, "call");
    if (!callee.is(Kind::callable)) runtime_.fail("a {} cannot be called", type_name(callee));
    const Callable& callable = callee.as_callable();
    if (callable.builtin) return callable.builtin(runtime_, callable.self, arguments);
    return call_macro(callable, arguments);
}

}  // namespace nemo::jinja
