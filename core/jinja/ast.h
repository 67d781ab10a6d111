// A parsed template. Built once by the parser, read by any number of renderings.
//
// Invariant: no tree is deeper than the parser's limit, so recursion over it is safe.
#pragma once

#include "core/jinja/lexer.h"
#include "core/jinja/value.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nemo::jinja {

enum class ExpressionKind {
    constant,
    captured,  // the text of the block that a filter is applied to
    name,
    tuple,
    list,
    dict,         // operands: key, value, key, value, ...
    conditional,  // operands: value if true, condition, value if false (may be absent)
    logical_and,  // two or more operands
    logical_or,
    logical_not,
    compare,  // operands one more than operators
    binary,   // operators[0]
    concat,   // two or more operands
    negate,
    plus,
    attribute,  // operands[0] . text
    item,       // operands[0] [ operands[1] ]
    slice,      // operands[0] [ start : stop : step ], the last three may be absent
    call,       // operands[0] ( arguments )
    filter,     // operands[0] | text ( arguments )
    test,       // operands[0] is text ( arguments )
};

enum class Operator {
    add,
    subtract,
    multiply,
    divide,
    floor_divide,
    modulo,
    power,
    equal,
    not_equal,
    less,
    less_equal,
    greater,
    greater_equal,
    in,
    not_in,
};

// Names are numbered; Template::symbols has the spellings.
using Symbol = int;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
    ExpressionKind kind = ExpressionKind::constant;
    Position position;
    int depth = 1;
    Value constant;  // None, bool, number or trusted text
    std::string text;
    Symbol symbol = 0;
    Builtin builtin = nullptr;  // filter, test
    std::vector<ExpressionPtr> operands;
    std::vector<Operator> operators;
    std::vector<ExpressionPtr> positional;
    std::vector<std::pair<std::string, ExpressionPtr>> named;
};

// What can be assigned to: a name, an attribute of a namespace, or a tuple of these.
struct Target {
    Position position;
    Symbol symbol = 0;
    std::string attribute;  // empty: the name itself
    bool is_tuple = false;
    std::vector<Target> elements;
};

struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
    Symbol symbol = 0;
    std::string name;
    ExpressionPtr fallback;  // may be absent
};

struct MacroDefinition {
    std::string name;
    Symbol symbol = 0;
    std::vector<Parameter> parameters;
    // Jinja gives a macro these names only if its body mentions them.
    bool uses_caller = false;
    bool uses_varargs = false;
    bool uses_kwargs = false;
    Body body;
};

enum class StatementKind {
    data,          // data
    print,         // expression
    set,           // targets[0] = expression
    set_block,     // targets[0] = body, through the filters of expression
    if_else,       // branches
    for_loop,      // targets[0] in expression, if condition: body, else else_body
    macro,         // macro
    call_block,    // expression is the call, macro the caller
    filter_block,  // body, through the filters of expression
    scope,         // body with targets[i] = values[i]
    break_loop,
    continue_loop,
};

struct Branch {
    ExpressionPtr condition;  // absent: else
    Body body;
};

struct Statement {
    StatementKind kind = StatementKind::data;
    Position position;
    TextPtr data;
    ExpressionPtr expression;
    ExpressionPtr condition;
    std::vector<Target> targets;
    std::vector<ExpressionPtr> values;
    std::vector<Branch> branches;
    Body body;
    Body else_body;
    std::unique_ptr<MacroDefinition> macro;
};

struct Template {
    std::vector<std::string> symbols;
    Symbol loop = 0;
    Symbol caller = 0;
    Symbol varargs = 0;
    Symbol kwargs = 0;
    Body body;
};

}  // namespace nemo::jinja
