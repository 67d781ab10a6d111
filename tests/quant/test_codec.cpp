// Every number format against the oracle's fixtures (tests/oracle/make_quant_fixtures.py) and
// against blocks worked out by hand.
#include "quant/codec.h"
#include "quant/half.h"
#include "tests/quant/encoder_data.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <vector>

using namespace nemo;

namespace {

struct Record {
    bool encodes;
    DType dtype;
    std::vector<std::byte> bytes;
    std::vector<float> values;
};

std::vector<Record> read_fixtures() {
    std::ifstream file(NEMO_SOURCE_DIR "/tests/data/quant/blocks.bin", std::ios::binary);
    REQUIRE(file.good());
    std::vector<Record> records;
    std::array<uint32_t, 4> header;
    while (file.read(reinterpret_cast<char*>(header.data()), sizeof header)) {
        Record record{.encodes = header[0] == 1,
                      .dtype = static_cast<DType>(header[1]),
                      .bytes = std::vector<std::byte>(header[3]),
                      .values = std::vector<float>(header[2])};
        file.read(reinterpret_cast<char*>(record.bytes.data()), header[3]);
        file.read(reinterpret_cast<char*>(record.values.data()), header[2] * 4);
        REQUIRE(file.good());
        records.push_back(std::move(record));
    }
    return records;
}

std::vector<std::byte> block(std::initializer_list<int> head, size_t n_bytes) {
    std::vector<std::byte> bytes;
    for (const int value : head) bytes.push_back(static_cast<std::byte>(value));
    bytes.resize(n_bytes);
    return bytes;
}

constexpr int kHalfOne = 0x3c;  // upper byte of fp16 1.0
constexpr int kHalfTwo = 0x40;  // upper byte of fp16 2.0

}  // namespace

TEST_CASE("all formats decode and encode as the oracle does, bit for bit") {
    std::set<DType> decoded, encoded;
    for (const Record& record : read_fixtures()) {
        CAPTURE(dtype_info(record.dtype).name);
        if (record.encodes) {
            encoded.insert(record.dtype);
            CHECK(encode(record.dtype, record.values) == record.bytes);
            continue;
        }
        decoded.insert(record.dtype);
        const std::vector<float> values = decode(record.dtype, record.bytes);
        REQUIRE(values.size() == record.values.size());
        size_t n_wrong = 0;
        for (size_t i = 0; i < values.size(); ++i) n_wrong += values[i] != record.values[i];
        CHECK(n_wrong == 0);
    }
    CHECK(decoded.size() == 15);
    CHECK(encoded.size() == 4);
}

TEST_CASE("hand-made blocks of 32") {
    // d = 1, m = 2; byte 3 of the codes is 0xA1: element 3 is 1, element 19 is 10.
    auto q4_0 = block({0, kHalfOne, 0, 0, 0, 0xA1}, 18);
    CHECK(decode(DType::q4_0, q4_0)[3] == 1.0f - 8.0f);
    CHECK(decode(DType::q4_0, q4_0)[19] == 10.0f - 8.0f);
    CHECK(decode(DType::q4_0, q4_0)[4] == -8.0f);
    auto q4_1 = block({0, kHalfOne, 0, kHalfTwo, 0, 0, 0, 0xA1}, 20);
    CHECK(decode(DType::q4_1, q4_1)[3] == 3.0f);
    CHECK(decode(DType::q4_1, q4_1)[19] == 12.0f);
    // Fifth bits: element 3 (bit 3) and element 19 (bit 19).
    auto q5_0 = block({0, kHalfOne, 0x08, 0, 0x08, 0, 0, 0, 0, 0xA1}, 22);
    CHECK(decode(DType::q5_0, q5_0)[3] == 17.0f - 16.0f);
    CHECK(decode(DType::q5_0, q5_0)[19] == 26.0f - 16.0f);
    auto q5_1 = block({0, kHalfOne, 0, kHalfTwo, 0x08, 0, 0, 0, 0, 0, 0, 0xA1}, 24);
    CHECK(decode(DType::q5_1, q5_1)[3] == 19.0f);
    CHECK(decode(DType::q5_1, q5_1)[19] == 12.0f);
    auto q8_0 = block({0, kHalfTwo, 0x80, 0x7f, 0xff}, 34);
    CHECK(decode(DType::q8_0, q8_0)[0] == -256.0f);
    CHECK(decode(DType::q8_0, q8_0)[1] == 254.0f);
    CHECK(decode(DType::q8_0, q8_0)[2] == -2.0f);
    auto iq4_nl = block({0, kHalfTwo, 0xF0}, 18);
    CHECK(decode(DType::iq4_nl, iq4_nl)[0] == -254.0f);
    CHECK(decode(DType::iq4_nl, iq4_nl)[16] == 226.0f);
    // 2^(129-128) times the doubled values 0.5*2 and -6*2.
    auto mxfp4 = block({129, 0xF1}, 17);
    CHECK(decode(DType::mxfp4, mxfp4)[0] == 2.0f);
    CHECK(decode(DType::mxfp4, mxfp4)[16] == -24.0f);
    // Scale 1 has the code 0x38; sub-block 1 starts at byte 4 + 8.
    auto nvfp4 = block({0, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x72}, 36);
    CHECK(decode(DType::nvfp4, nvfp4)[16] == 1.0f);
    CHECK(decode(DType::nvfp4, nvfp4)[24] == 6.0f);
}

TEST_CASE("hand-made super-blocks of 256") {
    // Q4_K: d = 1, d_min = 2. Sub-block 0: scale 3, minimum 1. Sub-block 5: scale 0x21, minimum
    // 0x12.
    std::vector<std::byte> q4 = block({0, kHalfOne, 0, kHalfTwo}, 144);
    q4[4 + 0] = std::byte{3};
    q4[4 + 4] = std::byte{1};
    q4[4 + 9] = std::byte{0x21};        // low nibbles of scale 5 and minimum 5
    q4[4 + 1] = std::byte{2 << 6};      // high bits of scale 5
    q4[4 + 5] = std::byte{1 << 6};      // high bits of minimum 5
    q4[16 + 7] = std::byte{0x0B};       // element 7, sub-block 0
    q4[16 + 64 + 2] = std::byte{0x40};  // element 160 + 2, sub-block 5
    CHECK(decode(DType::q4_k, q4)[7] == 3.0f * 11 - 2.0f * 1);
    CHECK(decode(DType::q4_k, q4)[162] == 33.0f * 4 - 2.0f * 18);
    // Q5_K: the same with high bits of sub-blocks 0 and 5.
    std::vector<std::byte> q5(q4.begin(), q4.begin() + 16);
    q5.resize(48);
    q5[16 + 7] = std::byte{1};
    q5[16 + 2] = std::byte{1 << 5};
    q5.insert(q5.end(), q4.begin() + 16, q4.end());
    CHECK(decode(DType::q5_k, q5)[7] == 3.0f * 27 - 2.0f * 1);
    CHECK(decode(DType::q5_k, q5)[162] == 33.0f * 20 - 2.0f * 18);
    // Q6_K: element 128 + 96 + 17: high nibble of low[64 + 32 + 17], bits 6-7 of high[32 + 17],
    // scale 8 + 1 + 6.
    std::vector<std::byte> q6 = block({}, 210);
    q6[64 + 49] = std::byte{0x90};
    q6[128 + 49] = std::byte{0x80};
    q6[192 + 15] = std::byte{0xFE};
    q6[209] = std::byte{kHalfTwo};
    CHECK(decode(DType::q6_k, q6)[241] == 2.0f * -2.0f * (9 + 32 - 32));
    // Q2_K: element 128 + 32*2 + 20 = 212: bits 4-5 of codes[32 + 20], sub-block 13.
    std::vector<std::byte> q2 = block({}, 84);
    q2[13] = std::byte{0x35};
    q2[16 + 52] = std::byte{0x30};
    q2[81] = std::byte{kHalfOne};
    q2[83] = std::byte{kHalfTwo};
    CHECK(decode(DType::q2_k, q2)[212] == 5.0f * 3 - 2.0f * 3);
    // Q3_K: the same element; high bit 6 of mask[20]; scale 13: low nibble in the high half of
    // packed[5], high bits 6-7 of packed[9].
    std::vector<std::byte> q3 = block({}, 110);
    q3[20] = std::byte{1 << 6};
    q3[32 + 52] = std::byte{0x30};
    q3[96 + 5] = std::byte{0x70};
    q3[96 + 9] = std::byte{0xC0};
    q3[109] = std::byte{kHalfOne};
    CHECK(decode(DType::q3_k, q3)[212] == (0x37 - 32) * 3.0f);
    q3[20] = std::byte{0};
    CHECK(decode(DType::q3_k, q3)[212] == (0x37 - 32) * -1.0f);
    // IQ4_XS: sub-block 3: low scale nibble in the high half of byte 1, high bits 6-7; index 15.
    std::vector<std::byte> iq4 = block({0, kHalfOne, 0x80, 0, 0, 0x50}, 136);
    iq4[8 + 48 + 1] = std::byte{0xF0};
    CHECK(decode(DType::iq4_xs, iq4)[96 + 17] == (0x25 - 32) * 113.0f);
}

TEST_CASE("encoders keep what their format can hold") {
    std::vector<float> values(64);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 32.0f;
    values[0] = 127.0f;
    values[32] = -127.0f;
    CHECK(decode(DType::q8_0, encode(DType::q8_0, values)) == values);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 16) - 8.0f;
    CHECK(decode(DType::q4_0, encode(DType::q4_0, values)) == values);
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
        CHECK(decode(dtype, encode(dtype, values)) == values);
}

TEST_CASE("blocks of zeros and of subnormals encode without a division by zero") {
    for (const DType dtype : {DType::q8_0, DType::q4_0}) {
        for (const float value : {0.0f, -0.0f, 1e-45f, -1e-40f, 1e-38f}) {
            CAPTURE(value);
            const std::vector<float> values(32, value);
            for (const float decoded : decode(dtype, encode(dtype, values))) CHECK(decoded == 0.0f);
        }
    }
}
