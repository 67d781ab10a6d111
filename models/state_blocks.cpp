#include "models/state_blocks.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace nemo {

namespace {

constexpr size_t kBlockFloats = size_t{1} << 18;
constexpr size_t kGroup = 64;  // values with one factor

template <class T>
std::span<T> block_of(std::span<T> recurrent, size_t index) {
    const size_t begin = index * kBlockFloats;
    NEMO_ASSERT(begin < recurrent.size());
    return recurrent.subspan(begin, std::min(kBlockFloats, recurrent.size() - begin));
}

size_t n_groups(size_t n) {
    return (n + kGroup - 1) / kGroup;
}

// The factors of all groups, then the codes.
template <class Code>
size_t rounded_bytes(size_t n) {
    return n_groups(n) * sizeof(float) + n * sizeof(Code);
}

template <class Code>
std::vector<std::byte> round_values(std::span<const float> values) {
    constexpr float kLargest = std::numeric_limits<Code>::max();
    std::vector<float> factors(n_groups(values.size()));
    std::vector<Code> codes(values.size());
    for (size_t g = 0; g < factors.size(); ++g) {
        const size_t begin = g * kGroup, end = std::min(begin + kGroup, values.size());
        float largest = 0;
        bool finite = true;
        for (size_t i = begin; i < end; ++i) {
            largest = std::max(largest, std::fabs(values[i]));
            finite = finite && std::isfinite(values[i]);
        }
        // A broken state must not look healthy.
        factors[g] = finite ? largest / kLargest : std::numeric_limits<float>::quiet_NaN();
        if (!finite || factors[g] == 0) continue;
        for (size_t i = begin; i < end; ++i)
            codes[i] = static_cast<Code>(
                std::clamp(std::nearbyint(values[i] / factors[g]), -kLargest, kLargest));
    }
    std::vector<std::byte> bytes(rounded_bytes<Code>(values.size()));
    const size_t n_factor_bytes = factors.size() * sizeof(float);
    std::memcpy(bytes.data(), factors.data(), n_factor_bytes);
    std::memcpy(bytes.data() + n_factor_bytes, codes.data(), codes.size() * sizeof(Code));
    return bytes;
}

template <class Code>
void unpack_rounded(std::span<const std::byte> stored, const BlockEntry& entry,
                    std::span<float> values, std::string_view what, UnpackScratch& scratch) {
    const size_t n_bytes = rounded_bytes<Code>(values.size());
    scratch.rows.reserve(n_bytes);
    const std::span bytes(scratch.rows.data(), n_bytes);
    unpack_block(stored, entry, sizeof(Code), bytes, what, scratch.planes);
    const std::byte* codes = bytes.data() + n_groups(values.size()) * sizeof(float);
    for (size_t i = 0; i < values.size(); ++i) {
        float factor;
        Code code;
        std::memcpy(&factor, bytes.data() + i / kGroup * sizeof(float), sizeof factor);
        std::memcpy(&code, codes + i * sizeof(Code), sizeof code);
        values[i] = factor * static_cast<float>(code);
    }
}

size_t element_bytes(DType type) {
    return type == DType::f32 ? 4 : type == DType::f16 ? 2 : 1;
}

// Of all numbers in a page.
size_t page_width(const KvPageLayout& layout) {
    return std::min(element_bytes(layout.types().keys), element_bytes(layout.types().values));
}

// run(bytes of the page, where they go or come from): rows of one head of one layer at a time.
template <class Run>
void for_rows(const KvPageLayout& layout, int64_t n_rows, const Run& run) {
    size_t place = 0;
    const auto part = [&](const KvPageLayout::Part& cache) {
        const auto n_bytes = static_cast<size_t>(n_rows * cache.layout.row_bytes());
        for (int64_t head = 0; head < cache.layout.n_heads; ++head, place += n_bytes)
            run(cache.offset + cache.layout.offset(0, head), place, n_bytes);
    };
    for (size_t layer = 0; layer < layout.n_layers(); ++layer) {
        part(layout.keys(layer));
        part(layout.values(layer));
    }
}

}  // namespace

size_t n_recurrent_blocks(int64_t n_floats) {
    return (static_cast<size_t>(n_floats) + kBlockFloats - 1) / kBlockFloats;
}

PackedBlock pack_recurrent(std::span<const float> recurrent, size_t index, StateCoding coding) {
    const std::span<const float> values = block_of(recurrent, index);
    if (coding == StateCoding::int16) return pack_block(round_values<int16_t>(values), 2);
    if (coding == StateCoding::int8) return pack_block(round_values<int8_t>(values), 1);
    return pack_block(std::as_bytes(values), sizeof(float));
}

void unpack_recurrent(std::span<const std::byte> stored, const BlockEntry& entry,
                      StateCoding coding, size_t index, std::span<float> recurrent,
                      std::string_view what, UnpackScratch& scratch) {
    const std::span<float> values = block_of(recurrent, index);
    if (coding == StateCoding::int16)
        unpack_rounded<int16_t>(stored, entry, values, what, scratch);
    else if (coding == StateCoding::int8)
        unpack_rounded<int8_t>(stored, entry, values, what, scratch);
    else
        unpack_block(stored, entry, sizeof(float), std::as_writable_bytes(values), what,
                     scratch.planes);
}

PackedBlock pack_page(const KvPageLayout& layout, const KvPage& page, int64_t n_rows) {
    NEMO_ASSERT(n_rows <= page.n_rows);
    std::vector<std::byte> rows(static_cast<size_t>(n_rows * layout.token_bytes()));
    for_rows(layout, n_rows, [&](int64_t offset, size_t place, size_t n_bytes) {
        std::memcpy(rows.data() + place, page.data() + offset, n_bytes);
    });
    return pack_block(rows, page_width(layout));
}

void unpack_page(std::span<const std::byte> stored, const BlockEntry& entry,
                 const KvPageLayout& layout, int64_t n_rows, KvPage& page, std::string_view what,
                 UnpackScratch& scratch) {
    NEMO_ASSERT(n_rows <= kKvPageRows);
    const auto n_page_bytes = static_cast<size_t>(n_rows * layout.token_bytes());
    scratch.rows.reserve(n_page_bytes);
    const std::span rows(scratch.rows.data(), n_page_bytes);
    unpack_block(stored, entry, page_width(layout), rows, what, scratch.planes);
    for_rows(layout, n_rows, [&](int64_t offset, size_t place, size_t n_bytes) {
        std::memcpy(page.data() + offset, rows.data() + place, n_bytes);
    });
    page.n_rows = n_rows;
}

}  // namespace nemo
