// Runs a parsed template.
#pragma once

#include "core/jinja/ast.h"
#include "core/jinja/runtime.h"

#include <unordered_map>

namespace nemo::jinja {

// The variables of one scope. Names are looked up from the innermost frame outwards; assignment is
// always to the innermost. Loops, macros and blocks open a frame, `if` does not.
struct Frame {
    std::shared_ptr<Frame> parent;
    std::unordered_map<Symbol, Value> variables;
};

class Interpreter {
public:
    Interpreter(const Template& source, Runtime& runtime);

    void set_variable(const std::string& name, Value value);
    TextPtr run();

private:
    enum class Flow { normal, break_loop, continue_loop };

    Flow run_body(const Body& body, TextBuilder& out);
    Flow run_statement(const Statement& statement, TextBuilder& out);
    Flow run_if(const Statement& statement, TextBuilder& out);
    Flow run_for(const Statement& statement, TextBuilder& out);
    Flow run_scope(const Statement& statement, TextBuilder& out);
    void run_call_block(const Statement& statement, TextBuilder& out);
    // The body's text after the filters of the statement's expression.
    Value run_captured(const Statement& statement);
    std::vector<Value> loop_items(const Statement& statement);

    Value evaluate(const Expression& node);
    Value evaluate_operator(const Expression& node);
    Value evaluate_sequence(const Expression& node);
    Value evaluate_dict(const Expression& node);
    Value evaluate_logical(const Expression& node);
    Value evaluate_compare(const Expression& node);
    Value evaluate_concat(const Expression& node);
    Value evaluate_access(const Expression& node);
    Value evaluate_call(const Expression& node, const Value* caller = nullptr);
    Value evaluate_builtin(const Expression& node);
    Value optional(const ExpressionPtr& node) { return node ? evaluate(*node) : Value(); }
    Arguments evaluate_arguments(const Expression& node);

    Value call(const Value& callee, const Arguments& arguments, const Expression& node);
    Value call_macro(const Callable& macro, const Arguments& arguments);
    void bind_arguments(const Callable& macro, const Arguments& arguments, Frame& frame);
    Value new_macro(const MacroDefinition& definition);

    Value find_variable(Symbol symbol) const;
    void assign(const Target& target, Value value, Frame& frame);
    void check_defined(const Expression& node, const Value& value, std::string_view action);

    // Enters a frame until the end of the C++ scope.
    class FrameScope;

    const Template& template_;
    Runtime& runtime_;
    std::shared_ptr<Frame> frame_;
    Value captured_;  // what the next `captured` expression stands for
};

}  // namespace nemo::jinja
