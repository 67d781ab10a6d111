// Tests: `value is NAME`.
#include "core/jinja/builtins.h"
#include "core/jinja/operators.h"

#include <array>

namespace nemo::jinja {
namespace {

template <Kind... kinds>
Value is_kind(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "this test", arguments, {});
    return Value::boolean((value.is(kinds) || ...));
}

Value is_defined(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "defined", arguments, {});
    return Value::boolean(!value.is_undefined());
}

template <bool wanted>
Value is_constant(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, wanted ? "true" : "false", arguments, {});
    return Value::boolean(value.is(Kind::boolean) && value.as_boolean() == wanted);
}

Value is_iterable(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "iterable", arguments, {});
    return Value::boolean(value.is_undefined() || value.is(Kind::text) || value.is(Kind::list) ||
                          value.is(Kind::dict));
}

Value is_sequence(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "sequence", arguments, {});
    return Value::boolean(!value.is(Kind::loop) && length(value) >= 0);
}

template <Operator op>
Value compares(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "this test", arguments, {"other"}, 1);
    return Value::boolean(comparison(runtime, op, value, parameters.get(0)));
}

Value is_same_as(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "sameas", arguments, {"other"}, 1);
    return Value::boolean(value.is_same(parameters.get(0)));
}

Value is_divisible_by(Runtime& runtime, const Value& value, const Arguments& arguments) {
    const Parameters parameters(runtime, "divisibleby", arguments, {"num"}, 1);
    const Value rest = binary_operation(runtime, Operator::modulo, value, parameters.get(0));
    return Value::boolean(rest.is_number() && rest.as_real() == 0);
}

template <int64_t wanted_rest>
Value has_parity(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, wanted_rest == 0 ? "even" : "odd", arguments, {});
    const Value rest = binary_operation(runtime, Operator::modulo, value, Value::integer(2));
    return Value::boolean(rest.is_number() && rest.as_real() == static_cast<double>(wanted_rest));
}

template <CharClass wanted>
Value has_case(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "this test", arguments, {});
    return Value::boolean(is_all(to_text(runtime, value)->bytes, wanted));
}

Value is_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "filter", arguments, {});
    return Value::boolean(value.is(Kind::text) && find_filter(value.as_text()->bytes));
}

Value is_test(Runtime& runtime, const Value& value, const Arguments& arguments) {
    Parameters(runtime, "test", arguments, {});
    return Value::boolean(value.is(Kind::text) && find_test(value.as_text()->bytes));
}

constexpr std::array kTests = {
    BuiltinEntry{"defined", is_defined},
    BuiltinEntry{"undefined", is_kind<Kind::undefined>},
    BuiltinEntry{"none", is_kind<Kind::none>},
    BuiltinEntry{"boolean", is_kind<Kind::boolean>},
    BuiltinEntry{"true", is_constant<true>},
    BuiltinEntry{"false", is_constant<false>},
    BuiltinEntry{"integer", is_kind<Kind::integer>},
    BuiltinEntry{"float", is_kind<Kind::real>},
    BuiltinEntry{"number", is_kind<Kind::integer, Kind::real, Kind::boolean>},
    BuiltinEntry{"string", is_kind<Kind::text>},
    BuiltinEntry{"mapping", is_kind<Kind::dict>},
    BuiltinEntry{"callable", is_kind<Kind::callable, Kind::undefined>},
    BuiltinEntry{"iterable", is_iterable},
    BuiltinEntry{"sequence", is_sequence},
    BuiltinEntry{"sameas", is_same_as},
    BuiltinEntry{"divisibleby", is_divisible_by},
    BuiltinEntry{"even", has_parity<0>},
    BuiltinEntry{"odd", has_parity<1>},
    BuiltinEntry{"lower", has_case<CharClass::lower>},
    BuiltinEntry{"upper", has_case<CharClass::upper>},
    BuiltinEntry{"filter", is_filter},
    BuiltinEntry{"test", is_test},
    BuiltinEntry{"in", compares<Operator::in>},
    BuiltinEntry{"==", compares<Operator::equal>},
    BuiltinEntry{"eq", compares<Operator::equal>},
    BuiltinEntry{"equalto", compares<Operator::equal>},
    BuiltinEntry{"!=", compares<Operator::not_equal>},
    BuiltinEntry{"ne", compares<Operator::not_equal>},
    BuiltinEntry{"<", compares<Operator::less>},
    BuiltinEntry{"lt", compares<Operator::less>},
    BuiltinEntry{"lessthan", compares<Operator::less>},
    BuiltinEntry{"<=", compares<Operator::less_equal>},
    BuiltinEntry{"le", compares<Operator::less_equal>},
    BuiltinEntry{">", compares<Operator::greater>},
    BuiltinEntry{"gt", compares<Operator::greater>},
    BuiltinEntry{"greaterthan", compares<Operator::greater>},
    BuiltinEntry{">=", compares<Operator::greater_equal>},
    BuiltinEntry{"ge", compares<Operator::greater_equal>},
};

}  // namespace

Builtin find_test(std::string_view name) {
    return find_entry(kTests, name);
}

}  // namespace nemo::jinja
