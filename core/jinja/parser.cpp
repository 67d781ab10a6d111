#include "core/jinja/parser.h"

#include "core/jinja/expression_parser.h"

#include <algorithm>

namespace nemo::jinja {
namespace {

class Parser : public ExpressionParser {
public:
    using ExpressionParser::ExpressionParser;

    Template run() {
        result_.body = parse_body({}, "");
        return std::move(result_);
    }

private:
    using EndTags = std::initializer_list<std::string_view>;

    // Statements up to one of the end tags, whose name is left to be taken. `opened_by` is for
    // messages.
    Body parse_body(EndTags ends, std::string_view opened_by, Position opened_at = {}) {
        Body body;
        while (current().type != TokenType::end) {
            if (current().type == TokenType::data) {
                Token token = take();
                Statement& statement = body.emplace_back();
                statement.position = token.position;
                statement.data = make_text(std::move(token.text), true);
            } else if (current().type == TokenType::variable_begin) {
                take();
                Statement statement;
                statement.kind = StatementKind::print;
                statement.position = current().position;
                statement.expression = parse_tuple();
                if (current().type != TokenType::variable_end) fail_unexpected("'}}'");
                take();
                body.push_back(std::move(statement));
            } else {
                take();
                const auto is_current = [this](std::string_view name) {
                    return current().is_name(name);
                };
                if (std::any_of(ends.begin(), ends.end(), is_current)) return body;
                body.push_back(parse_statement());
                expect_block_end();
            }
        }
        if (ends.size() > 0) fail(opened_at, "this '{}' has no end", opened_by);
        return body;
    }

    void expect_block_end() {
        if (current().type != TokenType::block_end) fail_unexpected("'%}'");
        take();
    }

    // The body of a tag with one end tag, which is taken.
    Body parse_block(std::string_view end, std::string_view opened_by, Position opened_at) {
        expect_block_end();
        Body body = parse_body({end}, opened_by, opened_at);
        take();
        return body;
    }

    // The same where `break` and `continue` would have to leave more than the loop's body.
    Body parse_closed_block(std::string_view end, std::string_view opened_by, Position opened_at) {
        const int outer_loops = std::exchange(n_open_loops_, 0);
        Body body = parse_block(end, opened_by, opened_at);
        n_open_loops_ = outer_loops;
        return body;
    }

    Statement parse_statement() {
        const Nesting nesting(*this);
        if (current().type != TokenType::name) fail_unexpected("the name of a tag");
        const Token tag = take();
        Statement statement;
        statement.position = tag.position;
        if (tag.text == "if") {
            parse_if(statement);
        } else if (tag.text == "for") {
            parse_for(statement);
        } else if (tag.text == "set") {
            parse_set(statement);
        } else if (tag.text == "macro") {
            parse_macro(statement);
        } else if (tag.text == "call") {
            parse_call_block(statement);
        } else if (tag.text == "filter") {
            statement.kind = StatementKind::filter_block;
            statement.expression = parse_filter_chain();
            statement.body = parse_closed_block("endfilter", tag.text, tag.position);
        } else if (tag.text == "generation") {
            // Marks what the model wrote, for training; for rendering it is only a scope.
            statement.kind = StatementKind::scope;
            statement.body = parse_closed_block("endgeneration", tag.text, tag.position);
        } else if (tag.text == "with") {
            parse_with(statement);
        } else if (tag.text == "break" || tag.text == "continue") {
            const bool is_break = tag.text == "break";
            statement.kind = is_break ? StatementKind::break_loop : StatementKind::continue_loop;
            if (n_open_loops_ == 0) fail(tag.position, "'{}' outside of a loop", tag.text);
        } else {
            fail_tag(tag);
        }
        return statement;
    }

    [[noreturn]] void fail_tag(const Token& tag) {
        for (const char* name :
             {"import", "from", "include", "extends", "block", "autoescape", "do", "print"}) {
            if (tag.text == name) fail(tag.position, "the tag '{}' is not supported", tag.text);
        }
        const bool is_end =
            tag.text.rfind("end", 0) == 0 || tag.text == "else" || tag.text == "elif";
        if (is_end) fail(tag.position, "'{}' does not belong here", tag.text);
        fail(tag.position, "there is no tag '{}'", tag.text);
    }

    void parse_if(Statement& statement) {
        statement.kind = StatementKind::if_else;
        while (true) {
            Branch& branch = statement.branches.emplace_back();
            branch.condition = parse_tuple(false);
            expect_block_end();
            branch.body = parse_body({"elif", "else", "endif"}, "if", statement.position);
            const Token end = take();
            if (end.text == "elif") continue;
            if (end.text == "else") {
                statement.branches.emplace_back().body =
                    parse_block("endif", "if", statement.position);
            }
            return;
        }
    }

    void parse_for(Statement& statement) {
        statement.kind = StatementKind::for_loop;
        statement.targets.push_back(parse_target());
        if (!statement.targets[0].attribute.empty()) fail_unexpected("'in'");
        if (!skip_name("in")) fail_unexpected("'in'");
        statement.expression = parse_tuple(false);
        if (skip_name("if")) statement.condition = parse_expression();
        if (current().is_name("recursive")) {
            fail(current().position, "recursive loops are not supported");
        }
        expect_block_end();
        ++n_open_loops_;
        statement.body = parse_body({"endfor", "else"}, "for", statement.position);
        --n_open_loops_;
        if (take().text == "else")
            statement.else_body = parse_block("endfor", "for", statement.position);
    }

    void parse_set(Statement& statement) {
        statement.targets.push_back(parse_target());
        if (skip_op("=")) {
            statement.kind = StatementKind::set;
            statement.expression = parse_tuple();
            return;
        }
        statement.kind = StatementKind::set_block;
        statement.expression =
            parse_filters(new_node(ExpressionKind::captured, current().position));
        statement.body = parse_closed_block("endset", "set", statement.position);
    }

    void parse_with(Statement& statement) {
        statement.kind = StatementKind::scope;
        while (current().type != TokenType::block_end) {
            if (!statement.targets.empty()) expect_op(",");
            Target& target = statement.targets.emplace_back(parse_target_name());
            expect_op("=");
            statement.values.push_back(parse_expression());
            if (!target.attribute.empty()) fail(target.position, "expected a name");
        }
        statement.body = parse_block("endwith", "with", statement.position);
    }

    Target parse_target_name() {
        Target target;
        target.position = current().position;
        target.symbol = symbol_of(expect_name());
        return target;
    }

    void parse_parameters(MacroDefinition& macro) {
        expect_op("(");
        while (!current().is_op(")")) {
            if (!macro.parameters.empty()) expect_op(",");
            if (current().is_op(")")) break;
            Parameter parameter;
            const Position position = current().position;
            parameter.name = expect_name();
            parameter.symbol = symbol_of(parameter.name);
            if (skip_op("=")) {
                parameter.fallback = parse_expression();
            } else if (!macro.parameters.empty() && macro.parameters.back().fallback) {
                fail(position, "the parameter '{}' needs a default as those before it",
                     parameter.name);
            }
            macro.parameters.push_back(std::move(parameter));
        }
        expect_op(")");
    }

    void parse_macro_body(MacroDefinition& macro, std::string_view tag, Position position) {
        open_macros_.emplace_back();
        macro.body = parse_closed_block("end" + std::string(tag), tag, position);
        macro.uses_caller = open_macros_.back().caller;
        macro.uses_varargs = open_macros_.back().varargs;
        macro.uses_kwargs = open_macros_.back().kwargs;
        open_macros_.pop_back();
    }

    void parse_macro(Statement& statement) {
        statement.kind = StatementKind::macro;
        statement.macro = std::make_unique<MacroDefinition>();
        statement.macro->name = expect_name();
        statement.macro->symbol = symbol_of(statement.macro->name);
        parse_parameters(*statement.macro);
        parse_macro_body(*statement.macro, "macro", statement.position);
    }

    void parse_call_block(Statement& statement) {
        statement.kind = StatementKind::call_block;
        statement.macro = std::make_unique<MacroDefinition>();
        statement.macro->name = "caller";
        if (current().is_op("(")) parse_parameters(*statement.macro);
        const Position position = current().position;
        statement.expression = parse_expression();
        if (statement.expression->kind != ExpressionKind::call) fail(position, "expected a call");
        parse_macro_body(*statement.macro, "call", statement.position);
    }

    int n_open_loops_ = 0;  // that a `break` here could leave
};

}  // namespace

Template parse_template(std::string_view source, std::string_view source_name, int max_depth) {
    return Parser(source, source_name, max_depth).run();
}

}  // namespace nemo::jinja
