#include "core/jinja/operators.h"

#include "core/checked.h"
#include "core/jinja/builtins.h"

#include <algorithm>
#include <cmath>

namespace nemo::jinja {
namespace {

const char* spelling(Operator op) {
    switch (op) {
        case Operator::add:
            return "+";
        case Operator::subtract:
            return "-";
        case Operator::multiply:
            return "*";
        case Operator::divide:
            return "/";
        case Operator::floor_divide:
            return "//";
        case Operator::modulo:
            return "%";
        case Operator::power:
            return "**";
        case Operator::equal:
            return "==";
        case Operator::not_equal:
            return "!=";
        case Operator::less:
            return "<";
        case Operator::less_equal:
            return "<=";
        case Operator::greater:
            return ">";
        case Operator::greater_equal:
            return ">=";
        case Operator::in:
            return "in";
        case Operator::not_in:
            break;
    }
    return "not in";
}

Value checked(Runtime& runtime, std::optional<int64_t> value) {
    if (!value) runtime.fail("integer overflow");
    return Value::integer(*value);
}

// Rounds down, where C++ rounds to zero. right != 0.
int64_t floor_divide(Runtime& runtime, int64_t left, int64_t right) {
    if (right == -1) return checked(runtime, checked_mul<int64_t>(left, -1)).as_integer();
    const bool is_below = left % right != 0 && (left < 0) != (right < 0);
    return left / right - (is_below ? 1 : 0);
}

int64_t floor_modulo(int64_t left, int64_t right) {
    if (right == -1) return 0;
    const int64_t rest = left % right;
    return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

// Of the same sign as `right`.
double floor_modulo(double left, double right) {
    const double rest = std::fmod(left, right);
    if (rest == 0) return std::copysign(0.0, right);
    return (rest < 0) != (right < 0) ? rest + right : rest;
}

Value integer_power(Runtime& runtime, int64_t base, int64_t exponent) {
    if (base == 0 || base == 1) return Value::integer(exponent == 0 ? 1 : base);
    if (base == -1) return Value::integer(exponent % 2 == 0 ? 1 : -1);
    if (exponent > 63) runtime.fail("integer overflow");
    int64_t power = 1;
    for (; exponent > 0; --exponent)
        power = checked(runtime, checked_mul(power, base)).as_integer();
    return Value::integer(power);
}

Value real_power(Runtime& runtime, double base, double exponent) {
    if (base == 0 && exponent < 0) runtime.fail("division by zero");
    if (base < 0 && exponent != std::floor(exponent))
        runtime.fail("a power that is a complex number");
    const double power = std::pow(base, exponent);
    if (std::isinf(power) && std::isfinite(base) && std::isfinite(exponent)) {
        runtime.fail("the result of ** is too large");
    }
    return Value::real(power);
}

Value integer_operation(Runtime& runtime, Operator op, int64_t left, int64_t right) {
    const bool divides =
        op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo;
    if (divides && right == 0) runtime.fail("division by zero");
    switch (op) {
        case Operator::add:
            return checked(runtime, checked_add(left, right));
        case Operator::multiply:
            return checked(runtime, checked_mul(left, right));
        case Operator::divide:
            return Value::real(static_cast<double>(static_cast<long double>(left) /
                                                   static_cast<long double>(right)));
        case Operator::floor_divide:
            return Value::integer(floor_divide(runtime, left, right));
        case Operator::modulo:
            return Value::integer(floor_modulo(left, right));
        case Operator::power:
            if (right >= 0) return integer_power(runtime, left, right);
            return real_power(runtime, static_cast<double>(left), static_cast<double>(right));
        default:
            break;
    }
    int64_t difference = 0;
    if (__builtin_sub_overflow(left, right, &difference)) runtime.fail("integer overflow");
    return Value::integer(difference);
}

Value real_operation(Runtime& runtime, Operator op, double left, double right) {
    const bool divides =
        op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo;
    if (divides && right == 0) runtime.fail("division by zero");
    switch (op) {
        case Operator::add:
            return Value::real(left + right);
        case Operator::multiply:
            return Value::real(left * right);
        case Operator::divide:
            return Value::real(left / right);
        case Operator::floor_divide: {
            const double rest = floor_modulo(left, right);
            return Value::real(std::floor((left - rest) / right + 0.5));
        }
        case Operator::modulo:
            return Value::real(floor_modulo(left, right));
        case Operator::power:
            return real_power(runtime, left, right);
        default:
            return Value::real(left - right);
    }
}

Value repeat(Runtime& runtime, const Value& value, int64_t n_times) {
    const size_t n = n_times > 0 ? static_cast<size_t>(n_times) : 0;
    if (value.is(Kind::text)) {
        const Text& text = *value.as_text();
        const auto n_bytes = checked_mul(text.bytes.size(), n);
        if (!n_bytes) runtime.fail("integer overflow");
        runtime.check_text_size(0, *n_bytes);
        TextBuilder builder(runtime);
        for (size_t i = 0; i < n && !text.bytes.empty(); ++i) {
            runtime.step();
            builder.append(text);
        }
        return Value::text(builder.finish());
    }
    const std::vector<Value>& items = value.as_list().items;
    std::vector<Value> repeated;
    for (size_t i = 0; i < n && !items.empty(); ++i) {
        runtime.step(1 + static_cast<int64_t>(items.size()));
        repeated.insert(repeated.end(), items.begin(), items.end());
    }
    return runtime.new_list(std::move(repeated), value.as_list().type);
}

bool is_sequence(const Value& value) {
    return value.is(Kind::text) ||
           (value.is(Kind::list) && value.as_list().type != ListType::generator);
}

Value add_sequences(Runtime& runtime, const Value& left, const Value& right) {
    if (left.is(Kind::text)) {
        TextBuilder builder(runtime);
        builder.append(*left.as_text());
        builder.append(*right.as_text());
        return Value::text(builder.finish());
    }
    std::vector<Value> items = left.as_list().items;
    runtime.step(static_cast<int64_t>((items.size() + right.as_list().items.size()) / 4));
    items.insert(items.end(), right.as_list().items.begin(), right.as_list().items.end());
    return runtime.new_list(std::move(items), left.as_list().type);
}

}  // namespace

Value binary_operation(Runtime& runtime, Operator op, const Value& left, const Value& right) {
    if (op == Operator::modulo && left.is(Kind::text)) {
        return Value::text(format_percent(runtime, *left.as_text(), right));
    }
    if (left.is_integer() && right.is_integer()) {
        return integer_operation(runtime, op, left.as_integer(), right.as_integer());
    }
    if (left.is_number() && right.is_number()) {
        return real_operation(runtime, op, left.as_real(), right.as_real());
    }
    if (op == Operator::multiply && is_sequence(left) && right.is_integer()) {
        return repeat(runtime, left, right.as_integer());
    }
    if (op == Operator::multiply && left.is_integer() && is_sequence(right)) {
        return repeat(runtime, right, left.as_integer());
    }
    const bool are_alike = is_sequence(left) && left.kind() == right.kind() &&
                           (left.is(Kind::text) || left.as_list().type == right.as_list().type);
    if (op == Operator::add && are_alike) return add_sequences(runtime, left, right);
    runtime.fail("'{}' is not supported between {} and {}", spelling(op), type_name(left),
                 type_name(right));
}

bool comparison(Runtime& runtime, Operator op, const Value& left, const Value& right) {
    switch (op) {
        case Operator::equal:
            return is_equal(runtime, left, right);
        case Operator::not_equal:
            return !is_equal(runtime, left, right);
        case Operator::in:
            return contains(runtime, right, left);
        case Operator::not_in:
            return !contains(runtime, right, left);
        case Operator::less:
            return compare(runtime, left, right, spelling(op)) < 0;
        case Operator::less_equal:
            return compare(runtime, left, right, spelling(op)) <= 0;
        // Turned round, so that a NaN, which compares as greater, answers no.
        case Operator::greater:
            return compare(runtime, right, left, spelling(op)) < 0;
        case Operator::greater_equal:
            return compare(runtime, right, left, spelling(op)) <= 0;
        default:
            break;
    }
    runtime.fail("'{}' is no comparison", spelling(op));
}

Value negate(Runtime& runtime, const Value& value) {
    if (value.is_integer()) return checked(runtime, checked_mul<int64_t>(value.as_integer(), -1));
    if (value.is(Kind::real)) return Value::real(-value.as_real());
    runtime.fail("the sign of a {} cannot be changed", type_name(value));
}

Value unary_plus(Runtime& runtime, const Value& value) {
    if (value.is_integer()) return Value::integer(value.as_integer());
    if (value.is(Kind::real)) return value;
    runtime.fail("a {} has no sign", type_name(value));
}

Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
            const Value& step) {
    if (!is_sequence(object)) runtime.fail("a {} cannot be sliced", type_name(object));
    const auto bound = [&](const Value& value, int64_t fallback) {
        if (value.is_undefined() || value.is(Kind::none)) return fallback;
        if (!value.is_integer()) runtime.fail("a slice needs integers, not {}", type_name(value));
        return value.as_integer();
    };
    const int64_t n = length(object);
    const int64_t stride = bound(step, 1);
    if (stride == 0) runtime.fail("the step of a slice is 0");
    // Where a walk may begin and end: from the front [0, n], from the back [-1, n-1].
    const int64_t lowest = stride > 0 ? 0 : -1;
    const int64_t highest = stride > 0 ? n : n - 1;
    const auto clamp = [&](int64_t index) {
        if (index < 0) index = index < -n ? lowest : index + n;
        return std::clamp(index, lowest, std::max(lowest, highest));
    };
    const bool is_open_start = start.is_undefined() || start.is(Kind::none);
    const bool is_open_stop = stop.is_undefined() || stop.is(Kind::none);
    const int64_t from = is_open_start ? (stride > 0 ? lowest : highest) : clamp(bound(start, 0));
    const int64_t to = is_open_stop ? (stride > 0 ? highest : lowest) : clamp(bound(stop, 0));

    if (object.is(Kind::text) && stride == 1) {
        const TextPtr& text = object.as_text();
        const size_t begin = byte_offset(*text, static_cast<size_t>(from));
        const size_t end = byte_offset(*text, static_cast<size_t>(std::max(from, to)));
        return Value::text(substring(runtime, text, begin, end));
    }
    const std::vector<Value> items = iterate(runtime, object);
    std::vector<Value> chosen;
    for (int64_t i = from; stride > 0 ? i < to : i > to;) {
        runtime.step();
        chosen.push_back(items[static_cast<size_t>(i)]);
        if (__builtin_add_overflow(i, stride, &i)) break;
    }
    if (!object.is(Kind::text)) return runtime.new_list(std::move(chosen), object.as_list().type);
    TextBuilder builder(runtime);
    for (const Value& character : chosen) builder.append(*character.as_text());
    return Value::text(builder.finish());
}

}  // namespace nemo::jinja
