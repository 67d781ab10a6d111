// Arithmetic on sizes that come from files. Every product and sum of such numbers goes through
// here: a wrapped size is how other loaders were broken.
#pragma once

#include <concepts>
#include <optional>
#include <utility>

namespace nemo {

template <std::integral T>
std::optional<T> checked_mul(T a, T b) {
    T result;
    if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
    return result;
}

template <std::integral T>
std::optional<T> checked_add(T a, T b) {
    T result;
    if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
    return result;
}

// Converts between integer types if the value survives.
template <std::integral To, std::integral From>
std::optional<To> narrow(From value) {
    if (!std::in_range<To>(value)) return std::nullopt;
    return static_cast<To>(value);
}

}  // namespace nemo
