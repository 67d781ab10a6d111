// fp16, bf16 and FP8 conversions, over every bit pattern where there are few enough.
#include "quant/half.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace nemo;

namespace {

// From the definition of binary16, in double.
double f16_value(uint32_t bits) {
    const int exponent = static_cast<int>((bits >> 10) & 31u);
    const double mantissa = bits & 1023u;
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
    if (exponent == 0) return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(1024.0 + mantissa, exponent - 25);
}

}  // namespace

TEST_CASE("every fp16 value decodes by its definition and encodes back to itself") {
    for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
        const auto half = static_cast<uint16_t>(bits);
        const float value = f16_to_f32(half);
        const double expected = f16_value(bits);
        if (std::isnan(expected)) {
            REQUIRE(std::isnan(value));
            REQUIRE(std::isnan(f16_to_f32(f32_to_f16(value))));
            continue;
        }
        REQUIRE(static_cast<double>(value) == expected);
        REQUIRE(f32_to_f16(value) == half);
    }
}

TEST_CASE("fp16 rounds to nearest, ties to even, between all neighbours") {
    for (uint32_t bits = 0; bits < 0x7bffu; ++bits) {
        const double low = f16_value(bits), high = f16_value(bits + 1);
        const auto middle = static_cast<float>((low + high) / 2);  // exact: 12 significant bits
        const auto even = static_cast<uint16_t>(bits + (bits & 1u));
        REQUIRE(f32_to_f16(middle) == even);
        REQUIRE(f32_to_f16(-middle) == (even | 0x8000u));
        REQUIRE(f32_to_f16(std::nextafter(middle, 0.0f)) == bits);
        REQUIRE(f32_to_f16(std::nextafter(middle, 1e9f)) == bits + 1);
    }
}

TEST_CASE("fp16 ends of the range") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(f32_to_f16(65504.0f) == 0x7bff);
    CHECK(f32_to_f16(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
    CHECK(f32_to_f16(65520.0f) == 0x7c00);
    CHECK(f32_to_f16(std::numeric_limits<float>::max()) == 0x7c00);
    CHECK(f32_to_f16(infinity) == 0x7c00);
    CHECK(f32_to_f16(-infinity) == 0xfc00);
    CHECK(f32_to_f16(std::numeric_limits<float>::denorm_min()) == 0);
    CHECK(f32_to_f16(-0.0f) == 0x8000);
    CHECK(f32_to_f16(0x1p-25f) == 0);  // a tie with zero
    CHECK(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)) == 1);
}

TEST_CASE("bf16 is the upper half of fp32, rounded to nearest even") {
    CHECK(bf16_to_f32(0x3f80) == 1.0f);
    CHECK(f32_to_bf16(1.0f) == 0x3f80);
    CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);
    CHECK(f32_to_bf16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
    CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
    CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
    // A NaN whose payload lies in the lower half must not become infinity.
    CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
    for (uint32_t bits = 0; bits < 0x7f80u; ++bits)
        REQUIRE(f32_to_bf16(bf16_to_f32(static_cast<uint16_t>(bits))) == bits);
}

TEST_CASE("every E4M3 value decodes by its definition") {
    for (uint32_t bits = 0; bits < 256; ++bits) {
        const int exponent = static_cast<int>((bits >> 3) & 15u);
        const double mantissa = bits & 7u;
        double expected =
            exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0 + mantissa, exponent - 10);
        if ((bits & 0x80u) != 0) expected = -expected;
        const float value = e4m3_to_f32(static_cast<uint8_t>(bits));
        if ((bits & 0x7fu) == 0x7f)
            CHECK(std::isnan(value));
        else
            CHECK(static_cast<double>(value) == expected);
    }
    CHECK(e4m3_to_f32(0x7e) == 448.0f);
}
