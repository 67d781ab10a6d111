// Arithmetic, comparison and slicing as Python does them, on 64-bit integers: what would need more
// is an error.
#pragma once

#include "core/jinja/ast.h"
#include "core/jinja/runtime.h"

namespace nemo::jinja {

// Not for the comparisons.
Value binary_operation(Runtime& runtime, Operator op, const Value& left, const Value& right);
bool comparison(Runtime& runtime, Operator op, const Value& left, const Value& right);
Value negate(Runtime& runtime, const Value& value);
Value unary_plus(Runtime& runtime, const Value& value);
// object[start:stop:step]; a bound that is undefined or None is open.
Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
            const Value& step);

}  // namespace nemo::jinja
