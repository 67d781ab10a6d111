// Expressions of the template language, by recursive descent over the tokens. Precedence is
// Jinja's, lowest first: if-else, or, and, not, comparisons, + -, ~, * / // %, **, unary - +,
// postfix and filters.
#pragma once

#include "core/jinja/ast.h"

#include <map>

namespace nemo::jinja {

class ExpressionParser {
public:
    ExpressionParser(std::string_view source, std::string_view source_name, int max_depth);

protected:
    const Token& current() const { return tokens_[next_]; }
    const Token& look_ahead() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
    Token take() { return tokens_[next_ + 1 < tokens_.size() ? next_++ : next_]; }
    bool skip_op(std::string_view op);
    bool skip_name(std::string_view name);
    void expect_op(std::string_view op);
    std::string expect_name();
    Symbol symbol_of(const std::string& name);

    template <class... Args>
    [[noreturn]] void fail(Position position, fmt::format_string<Args...> format,
                           Args&&... args) const {
        fail_at(source_name_, position, format, std::forward<Args>(args)...);
    }
    [[noreturn]] void fail_unexpected(std::string_view wanted) const;

    // One level of recursion. The limit is the same for every part of the syntax.
    class Nesting {
    public:
        explicit Nesting(ExpressionParser& parser);
        ~Nesting() { --parser_.depth_; }
        Nesting(const Nesting&) = delete;

    private:
        ExpressionParser& parser_;
    };

    ExpressionPtr parse_expression();
    // Without if-else.
    ExpressionPtr parse_or();
    // One expression, or a tuple without parentheses.
    ExpressionPtr parse_tuple(bool with_conditional = true);
    ExpressionPtr parse_postfix(ExpressionPtr node);
    // "| a | b(...)"; `node` is what the first filter is applied to.
    ExpressionPtr parse_filters(ExpressionPtr node);
    // "a(...) | b": the first bar is missing.
    ExpressionPtr parse_filter_chain();
    // Up to "in" or "=".
    Target parse_target();
    ExpressionPtr new_node(ExpressionKind kind, Position position) const;

    Template result_;
    // Which of the special names the macros being parsed mention; one entry per open macro.
    struct MentionedNames {
        bool caller = false;
        bool varargs = false;
        bool kwargs = false;
    };
    std::vector<MentionedNames> open_macros_;

private:
    ExpressionPtr parse_and();
    ExpressionPtr parse_not();
    ExpressionPtr parse_compare();
    ExpressionPtr parse_sum();
    ExpressionPtr parse_concat();
    ExpressionPtr parse_product();
    ExpressionPtr parse_power();
    ExpressionPtr parse_unary(bool with_filters);
    ExpressionPtr parse_primary();
    ExpressionPtr parse_name();
    ExpressionPtr parse_parentheses();
    ExpressionPtr parse_list();
    ExpressionPtr parse_dict();
    ExpressionPtr parse_attribute(ExpressionPtr object);
    ExpressionPtr parse_subscript(ExpressionPtr object);
    ExpressionPtr parse_call(ExpressionPtr callee);
    ExpressionPtr parse_filter(ExpressionPtr node);
    ExpressionPtr parse_test(ExpressionPtr node);
    void parse_arguments(Expression& call);
    bool at_tuple_end() const;
    Target parse_target_element();

    ExpressionPtr finish(ExpressionPtr node) const;
    ExpressionPtr new_binary(Operator op, Position position, ExpressionPtr left,
                             ExpressionPtr right) const;
    // One node for "a op b op c ..." of one kind, so that long chains stay flat.
    using Rule = ExpressionPtr (ExpressionParser::*)();
    template <class Skip>
    ExpressionPtr parse_chain(ExpressionKind kind, Rule operand, Skip skip_operator);

    std::string source_name_;
    int max_depth_;
    std::vector<Token> tokens_;
    size_t next_ = 0;
    int depth_ = 0;
    std::map<std::string, Symbol> symbols_;
};

}  // namespace nemo::jinja
