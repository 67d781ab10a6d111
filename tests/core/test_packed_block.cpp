#include "core/error.h"
#include "core/packed_block.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

using namespace nemo;

namespace {

std::vector<std::byte> some_floats(size_t n_bytes) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    std::vector<std::byte> bytes(n_bytes);
    for (size_t i = 0; i + 4 <= n_bytes; i += 4) {
        const float value = normal(random);
        std::memcpy(&bytes[i], &value, 4);
    }
    return bytes;
}

}  // namespace

TEST_CASE("packed blocks come back as they were, and planes make them smaller") {
    for (const size_t n_bytes : {size_t{0}, size_t{4}, size_t{100}, size_t{1} << 18}) {
        const std::vector<std::byte> raw = some_floats(n_bytes);
        size_t n_without_planes = 0;
        for (const size_t width : {1, 2, 4}) {
            BlockBuffer planes;
            const PackedBlock block = pack_block(raw, width);
            std::vector<std::byte> back(n_bytes);
            unpack_block(block.stored, block.entry(), width, back, "test", planes);
            CHECK(back == raw);
            if (width == 1) n_without_planes = block.stored.size();
            if (width == 4 && n_bytes > 1000) {
                CHECK(block.stored.size() < n_without_planes);
                CHECK(block.stored.size() < n_bytes * 9 / 10);
            }
        }
    }
}

TEST_CASE("packed blocks that are damaged, too long or too short are refused") {
    const std::vector<std::byte> raw = some_floats(3000);
    const PackedBlock block = pack_block(raw, 4);
    std::vector<std::byte> back(3000);
    BlockBuffer planes;
    const auto refused = [&](std::vector<std::byte> stored, const BlockEntry& entry, size_t n) {
        std::vector<std::byte> target(n);
        CHECK_THROWS_AS(unpack_block(stored, entry, 4, target, "test", planes), Error);
    };
    refused(block.stored, block.entry(), 2996);
    refused(block.stored, block.entry(), 3004);
    for (size_t i = 0; i < block.stored.size(); ++i) {
        PackedBlock changed = block;
        changed.stored[i] ^= std::byte{16};
        refused(changed.stored, block.entry(), 3000);
        changed.stored.resize(i);
        refused(changed.stored, block.entry(), 3000);
        // With a right checksum: whatever comes out stays where it belongs.
        try {
            changed = block;
            changed.stored[i] ^= std::byte{16};
            unpack_block(changed.stored, changed.entry(), 4, back, "test", planes);
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::bad_file);
        }
    }
}
