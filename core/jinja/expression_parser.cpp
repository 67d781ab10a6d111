#include "core/jinja/expression_parser.h"

#include "core/jinja/builtins.h"

#include <algorithm>

namespace nemo::jinja {
namespace {

std::optional<Operator> comparison_operator(const Token& token) {
    if (token.type != TokenType::op) return std::nullopt;
    if (token.text == "==") return Operator::equal;
    if (token.text == "!=") return Operator::not_equal;
    if (token.text == "<") return Operator::less;
    if (token.text == "<=") return Operator::less_equal;
    if (token.text == ">") return Operator::greater;
    if (token.text == ">=") return Operator::greater_equal;
    return std::nullopt;
}

std::string describe(const Token& token) {
    switch (token.type) {
        case TokenType::end:
            return "the end of the template";
        case TokenType::variable_end:
            return "the end of the expression";
        case TokenType::block_end:
            return "the end of the tag";
        case TokenType::string:
            return "a string";
        case TokenType::data:
            return "text";
        default:
            return "'" + token.text + "'";
    }
}

}  // namespace

ExpressionParser::ExpressionParser(std::string_view source, std::string_view source_name,
                                   int max_depth)
    : source_name_(source_name), max_depth_(max_depth), tokens_(tokenize(source, source_name)) {
    result_.loop = symbol_of("loop");
    result_.caller = symbol_of("caller");
    result_.varargs = symbol_of("varargs");
    result_.kwargs = symbol_of("kwargs");
}

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
    if (++parser.depth_ > parser.max_depth_) {
        parser.fail(parser.current().position, "nested too deeply (limit {} levels)",
                    parser.max_depth_);
    }
}

bool ExpressionParser::skip_op(std::string_view op) {
    if (!current().is_op(op)) return false;
    take();
    return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
    if (!current().is_name(name)) return false;
    take();
    return true;
}

void ExpressionParser::expect_op(std::string_view op) {
    if (!skip_op(op)) fail_unexpected(fmt::format("'{}'", op));
}

std::string ExpressionParser::expect_name() {
    if (current().type != TokenType::name) fail_unexpected("a name");
    return take().text;
}

void ExpressionParser::fail_unexpected(std::string_view wanted) const {
    fail(current().position, "expected {}, found {}", wanted, describe(current()));
}

Symbol ExpressionParser::symbol_of(const std::string& name) {
    const auto [found, is_new] =
        symbols_.try_emplace(name, static_cast<Symbol>(result_.symbols.size()));
    if (is_new) result_.symbols.push_back(name);
    return found->second;
}

ExpressionPtr ExpressionParser::new_node(ExpressionKind kind, Position position) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->position = position;
    return node;
}

// Every node passes here when its parts are complete.
ExpressionPtr ExpressionParser::finish(ExpressionPtr node) const {
    const auto include = [&](const ExpressionPtr& part) {
        if (part) node->depth = std::max(node->depth, part->depth + 1);
    };
    for (const ExpressionPtr& part : node->operands) include(part);
    for (const ExpressionPtr& part : node->positional) include(part);
    for (const auto& part : node->named) include(part.second);
    if (node->depth > max_depth_) {
        fail(node->position, "the expression is nested too deeply (limit {} levels)", max_depth_);
    }
    return node;
}

ExpressionPtr ExpressionParser::new_binary(Operator op, Position position, ExpressionPtr left,
                                           ExpressionPtr right) const {
    ExpressionPtr node = new_node(ExpressionKind::binary, position);
    node->operators.push_back(op);
    node->operands.push_back(std::move(left));
    node->operands.push_back(std::move(right));
    return finish(std::move(node));
}

template <class Skip>
ExpressionPtr ExpressionParser::parse_chain(ExpressionKind kind, Rule operand, Skip skip_operator) {
    ExpressionPtr first = (this->*operand)();
    const Position position = current().position;
    if (!skip_operator()) return first;
    ExpressionPtr node = new_node(kind, position);
    node->operands.push_back(std::move(first));
    do node->operands.push_back((this->*operand)());
    while (skip_operator());
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_expression() {
    const Nesting nesting(*this);
    ExpressionPtr value = parse_or();
    while (current().is_name("if")) {
        ExpressionPtr node = new_node(ExpressionKind::conditional, take().position);
        node->operands.push_back(std::move(value));
        node->operands.push_back(parse_or());
        node->operands.push_back(skip_name("else") ? parse_expression() : nullptr);
        value = finish(std::move(node));
    }
    return value;
}

ExpressionPtr ExpressionParser::parse_or() {
    return parse_chain(ExpressionKind::logical_or, &ExpressionParser::parse_and,
                       [this] { return skip_name("or"); });
}

ExpressionPtr ExpressionParser::parse_and() {
    return parse_chain(ExpressionKind::logical_and, &ExpressionParser::parse_not,
                       [this] { return skip_name("and"); });
}

ExpressionPtr ExpressionParser::parse_not() {
    if (!current().is_name("not")) return parse_compare();
    const Nesting nesting(*this);
    ExpressionPtr node = new_node(ExpressionKind::logical_not, take().position);
    node->operands.push_back(parse_not());
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_compare() {
    ExpressionPtr first = parse_sum();
    ExpressionPtr node;
    while (true) {
        std::optional<Operator> op = comparison_operator(current());
        if (current().is_name("in")) op = Operator::in;
        if (current().is_name("not") && look_ahead().is_name("in")) op = Operator::not_in;
        if (!op) break;
        if (!node) {
            node = new_node(ExpressionKind::compare, current().position);
            node->operands.push_back(std::move(first));
        }
        if (op == Operator::not_in) take();
        take();
        node->operators.push_back(*op);
        node->operands.push_back(parse_sum());
    }
    return node ? finish(std::move(node)) : std::move(first);
}

ExpressionPtr ExpressionParser::parse_sum() {
    ExpressionPtr left = parse_concat();
    while (current().is_op("+") || current().is_op("-")) {
        const Token op = take();
        left = new_binary(op.text == "+" ? Operator::add : Operator::subtract, op.position,
                          std::move(left), parse_concat());
    }
    return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
    return parse_chain(ExpressionKind::concat, &ExpressionParser::parse_product,
                       [this] { return skip_op("~"); });
}

ExpressionPtr ExpressionParser::parse_product() {
    ExpressionPtr left = parse_power();
    while (current().is_op("*") || current().is_op("/") || current().is_op("//") ||
           current().is_op("%")) {
        const Token token = take();
        const Operator op = token.text == "*"    ? Operator::multiply
                            : token.text == "/"  ? Operator::divide
                            : token.text == "//" ? Operator::floor_divide
                                                 : Operator::modulo;
        left = new_binary(op, token.position, std::move(left), parse_power());
    }
    return left;
}

// Unlike Python's, Jinja's ** is left-associative and binds weaker than a unary minus.
ExpressionPtr ExpressionParser::parse_power() {
    ExpressionPtr left = parse_unary(true);
    while (current().is_op("**")) {
        const Position position = take().position;
        left = new_binary(Operator::power, position, std::move(left), parse_unary(true));
    }
    return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
    const Nesting nesting(*this);
    ExpressionPtr node;
    if (current().is_op("-") || current().is_op("+")) {
        const Token op = take();
        node =
            new_node(op.text == "-" ? ExpressionKind::negate : ExpressionKind::plus, op.position);
        node->operands.push_back(parse_unary(false));
        node = finish(std::move(node));
    } else {
        node = parse_primary();
    }
    node = parse_postfix(std::move(node));
    if (!with_filters) return node;
    while (true) {
        if (current().is_op("|")) {
            node = parse_filters(std::move(node));
        } else if (current().is_name("is")) {
            node = parse_test(std::move(node));
        } else if (current().is_op("(")) {
            node = parse_call(std::move(node));
        } else {
            return node;
        }
    }
}

ExpressionPtr ExpressionParser::parse_primary() {
    const Token& token = current();
    if (token.type == TokenType::name) return parse_name();
    if (token.is_op("(")) return parse_parentheses();
    if (token.is_op("[")) return parse_list();
    if (token.is_op("{")) return parse_dict();
    ExpressionPtr node = new_node(ExpressionKind::constant, token.position);
    if (token.type == TokenType::string) {
        std::string text = take().text;
        while (current().type == TokenType::string) text += take().text;
        node->constant = Value::text(make_text(std::move(text), true));
    } else if (token.type == TokenType::integer) {
        node->constant = Value::integer(take().integer);
    } else if (token.type == TokenType::real) {
        node->constant = Value::real(take().real);
    } else {
        fail_unexpected("an expression");
    }
    return node;
}

ExpressionPtr ExpressionParser::parse_name() {
    const Token token = take();
    const std::string& name = token.text;
    ExpressionPtr node = new_node(ExpressionKind::constant, token.position);
    if (name == "true" || name == "True") {
        node->constant = Value::boolean(true);
    } else if (name == "false" || name == "False") {
        node->constant = Value::boolean(false);
    } else if (name == "none" || name == "None") {
        node->constant = Value::none();
    } else {
        node->kind = ExpressionKind::name;
        node->text = name;
        node->symbol = symbol_of(name);
        for (MentionedNames& names : open_macros_) {
            names.caller = names.caller || name == "caller";
            names.varargs = names.varargs || name == "varargs";
            names.kwargs = names.kwargs || name == "kwargs";
        }
    }
    return node;
}

bool ExpressionParser::at_tuple_end() const {
    return current().type == TokenType::variable_end || current().type == TokenType::block_end ||
           current().is_op(")");
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_conditional) {
    const Position position = current().position;
    ExpressionPtr first = with_conditional ? parse_expression() : parse_or();
    if (!current().is_op(",")) return first;
    ExpressionPtr node = new_node(ExpressionKind::tuple, position);
    node->operands.push_back(std::move(first));
    while (skip_op(",") && !at_tuple_end()) {
        node->operands.push_back(with_conditional ? parse_expression() : parse_or());
    }
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_parentheses() {
    const Position position = take().position;
    if (skip_op(")")) return new_node(ExpressionKind::tuple, position);
    ExpressionPtr node = parse_tuple();
    expect_op(")");
    return node;
}

ExpressionPtr ExpressionParser::parse_list() {
    ExpressionPtr node = new_node(ExpressionKind::list, take().position);
    while (!current().is_op("]")) {
        if (!node->operands.empty()) expect_op(",");
        if (current().is_op("]")) break;
        node->operands.push_back(parse_expression());
    }
    expect_op("]");
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_dict() {
    ExpressionPtr node = new_node(ExpressionKind::dict, take().position);
    while (!current().is_op("}")) {
        if (!node->operands.empty()) expect_op(",");
        if (current().is_op("}")) break;
        node->operands.push_back(parse_expression());
        expect_op(":");
        node->operands.push_back(parse_expression());
    }
    expect_op("}");
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
    while (true) {
        if (current().is_op(".")) {
            node = parse_attribute(std::move(node));
        } else if (current().is_op("[")) {
            node = parse_subscript(std::move(node));
        } else if (current().is_op("(")) {
            node = parse_call(std::move(node));
        } else {
            return node;
        }
    }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr object) {
    const Position position = take().position;
    ExpressionPtr node;
    if (current().type == TokenType::integer) {
        node = new_node(ExpressionKind::item, position);
        node->operands.push_back(std::move(object));
        ExpressionPtr index = new_node(ExpressionKind::constant, current().position);
        index->constant = Value::integer(take().integer);
        node->operands.push_back(std::move(index));
    } else {
        node = new_node(ExpressionKind::attribute, position);
        node->text = expect_name();
        node->operands.push_back(std::move(object));
    }
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
    ExpressionPtr node = new_node(ExpressionKind::item, take().position);
    node->operands.push_back(std::move(object));
    const auto at_end = [this] { return current().is_op(":") || current().is_op("]"); };
    ExpressionPtr first = at_end() ? nullptr : parse_expression();
    if (current().is_op(":")) {
        node->kind = ExpressionKind::slice;
        node->operands.push_back(std::move(first));
        take();
        node->operands.push_back(at_end() ? nullptr : parse_expression());
        const bool has_step = skip_op(":") && !at_end();
        node->operands.push_back(has_step ? parse_expression() : nullptr);
    } else {
        if (!first) fail_unexpected("an index");
        node->operands.push_back(std::move(first));
    }
    expect_op("]");
    return finish(std::move(node));
}

void ExpressionParser::parse_arguments(Expression& call) {
    expect_op("(");
    while (!current().is_op(")")) {
        if (!call.positional.empty() || !call.named.empty()) expect_op(",");
        if (current().is_op(")")) break;
        if (current().is_op("*") || current().is_op("**")) {
            fail(current().position, "'{}' arguments are not supported", current().text);
        }
        if (current().type == TokenType::name && look_ahead().is_op("=")) {
            std::string name = take().text;
            take();
            call.named.emplace_back(std::move(name), parse_expression());
        } else {
            if (!call.named.empty()) {
                fail(current().position, "an argument without name follows one with a name");
            }
            call.positional.push_back(parse_expression());
        }
    }
    expect_op(")");
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr callee) {
    ExpressionPtr node = new_node(ExpressionKind::call, current().position);
    node->operands.push_back(std::move(callee));
    parse_arguments(*node);
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr node) {
    while (skip_op("|")) node = parse_filter(std::move(node));
    return node;
}

ExpressionPtr ExpressionParser::parse_filter_chain() {
    return parse_filters(parse_filter(new_node(ExpressionKind::captured, current().position)));
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr subject) {
    ExpressionPtr node = new_node(ExpressionKind::filter, current().position);
    node->text = expect_name();
    node->builtin = find_filter(node->text);
    if (!node->builtin) fail(node->position, "there is no filter '{}'", node->text);
    node->operands.push_back(std::move(subject));
    if (current().is_op("(")) parse_arguments(*node);
    return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr subject) {
    take();
    const Position position = current().position;
    const bool is_negated = skip_name("not");
    ExpressionPtr node = new_node(ExpressionKind::test, current().position);
    node->text = expect_name();
    node->builtin = find_test(node->text);
    if (!node->builtin) fail(node->position, "there is no test '{}'", node->text);
    node->operands.push_back(std::move(subject));
    const Token& next = current();
    const bool is_word_operator = next.is_name("else") || next.is_name("or") || next.is_name("and");
    const bool starts_value = next.type == TokenType::string || next.type == TokenType::integer ||
                              next.type == TokenType::real || next.is_op("[") || next.is_op("{") ||
                              (next.type == TokenType::name && !is_word_operator);
    if (next.is_op("(")) {
        parse_arguments(*node);
    } else if (next.is_name("is")) {
        fail(next.position, "tests cannot be chained with 'is'");
    } else if (starts_value) {
        node->positional.push_back(parse_postfix(parse_primary()));
    }
    node = finish(std::move(node));
    if (!is_negated) return node;
    ExpressionPtr negated = new_node(ExpressionKind::logical_not, position);
    negated->operands.push_back(std::move(node));
    return finish(std::move(negated));
}

Target ExpressionParser::parse_target() {
    const Nesting nesting(*this);
    Target first = parse_target_element();
    if (!current().is_op(",")) return first;
    Target tuple;
    tuple.position = first.position;
    tuple.is_tuple = true;
    tuple.elements.push_back(std::move(first));
    while (skip_op(",") && (current().type == TokenType::name || current().is_op("(")) &&
           !current().is_name("in")) {
        tuple.elements.push_back(parse_target_element());
    }
    return tuple;
}

Target ExpressionParser::parse_target_element() {
    if (skip_op("(")) {
        Target inner = parse_target();
        expect_op(")");
        return inner;
    }
    Target target;
    target.position = current().position;
    const std::string name = expect_name();
    for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
        if (name == constant) fail(target.position, "cannot assign to '{}'", name);
    }
    target.symbol = symbol_of(name);
    if (skip_op(".")) target.attribute = expect_name();
    return target;
}

}  // namespace nemo::jinja
