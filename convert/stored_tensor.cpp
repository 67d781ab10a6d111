#include "convert/stored_tensor.h"

#include "core/error.h"
#include "quant/codec.h"
#include "quant/half.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace nemo {

namespace {

constexpr int64_t kNvfp4Tile = 16;
constexpr int64_t kNvfp4Tiles = 4;  // per GGUF block
constexpr int64_t kMxfp4Tile = 32;
constexpr float kLargestE2m1 = 6.0f;

constexpr float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// 2^(exponent - 127); 255 is NaN.
float e8m0_to_f32(uint8_t exponent) {
    if (exponent == 255) return std::numeric_limits<float>::quiet_NaN();
    return std::bit_cast<float>(exponent == 0 ? 0x00400000u : uint32_t{exponent} << 23);
}

// The upper byte of an F16.
float e5m2_to_f32(uint8_t bits) {
    return f16_to_f32(static_cast<uint16_t>(bits << 8));
}

template <class Convert>
std::array<float, 256> byte_table(Convert convert) {
    std::array<float, 256> table{};
    for (size_t i = 0; i < table.size(); ++i) table[i] = convert(static_cast<uint8_t>(i));
    return table;
}

void decode_bytes(const std::byte* source, int64_t n, float* target,
                  const std::array<float, 256>& table) {
    for (int64_t i = 0; i < n; ++i) target[i] = table[std::to_integer<size_t>(source[i])];
}

// Values of any float type but pairs.
void decode(SafetensorsType type, const std::byte* source, int64_t n, float* target) {
    static const std::array<float, 256> e4m3 = byte_table(e4m3_to_f32);
    static const std::array<float, 256> e5m2 = byte_table(e5m2_to_f32);
    switch (type) {
        case SafetensorsType::f32:
            std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
            return;
        case SafetensorsType::f16:
            decode_row(DType::f16, source, target, n);
            return;
        case SafetensorsType::bf16:
            decode_row(DType::bf16, source, target, n);
            return;
        case SafetensorsType::f8_e4m3:
            decode_bytes(source, n, target, e4m3);
            return;
        case SafetensorsType::f8_e5m2:
            decode_bytes(source, n, target, e5m2);
            return;
        default:
            NEMO_ASSERT(!"a float type");
    }
}

// 4-bit codes from neighbours sharing a byte to halves of the block sharing one: byte j of the
// target has elements j and j + n_bytes. `flip` is 0x88 to change every sign, otherwise 0.
void split_halves(const std::byte* source, int64_t n_bytes, std::byte flip, std::byte* target) {
    constexpr std::byte kLow{0x0f};
    constexpr std::byte kHigh{0xf0};
    const int64_t half = n_bytes / 2;
    for (int64_t i = 0; i < half; ++i) {
        const std::byte a = source[i] ^ flip, b = source[i + half] ^ flip;
        target[2 * i] = (a & kLow) | (b << 4);
        target[2 * i + 1] = (a >> 4) | (b & kHigh);
    }
}

}  // namespace

std::string_view stored_form_name(StoredForm form) {
    switch (form) {
        case StoredForm::plain:
            return "unquantized";
        case StoredForm::fp8:
            return "FP8";
        case StoredForm::nvfp4:
            return "NVFP4";
        case StoredForm::mxfp4:
            return "MXFP4";
    }
    return "?";
}

std::string_view StoredTensor::type_name() const {
    const bool is_packed = form == StoredForm::nvfp4 || form == StoredForm::mxfp4;
    return is_packed ? stored_form_name(form) : safetensors_type_name(weight.type);
}

int64_t StoredTensor::scale_index(int64_t element) const {
    const int64_t row = element / n_columns;
    const int64_t matrix = row / n_rows;
    const int64_t n_tile_columns = (n_columns + tile_columns - 1) / tile_columns;
    const int64_t n_tile_rows = (n_rows + tile_rows - 1) / tile_rows;
    const int64_t first = shares_scales ? 0 : matrix * n_tile_rows;
    return (first + row % n_rows / tile_rows) * n_tile_columns + element % n_columns / tile_columns;
}

float StoredTensor::scale_at(int64_t index) const {
    if (has_exponent_scales)
        return e8m0_to_f32(std::to_integer<uint8_t>(scales.bytes[static_cast<size_t>(index)]));
    float value = 0.0f;
    const size_t n_bytes = scales.bytes.size() / static_cast<size_t>(scales.n_elements());
    decode(scales.type, scales.bytes.data() + static_cast<size_t>(index) * n_bytes, 1, &value);
    return value;
}

int64_t StoredTensor::n_element_bits() const {
    return std::ssize(weight.bytes) * 8 / n_elements;
}

std::span<const std::byte> StoredTensor::weight_bytes(int64_t first, int64_t n) const {
    const int64_t n_bits = n_element_bits();
    const int64_t begin = first * n_bits / 8;
    const int64_t end = ((first + n) * n_bits + 7) / 8;
    return weight.bytes.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// `codes` begin with the byte that holds element `first`.
void StoredTensor::decode_codes(const std::byte* codes, int64_t first, int64_t n,
                                float* target) const {
    if (form == StoredForm::fp8) return decode(weight.type, codes, n, target);
    const int64_t n_before = first % 2;
    for (int64_t i = n_before; i < n_before + n; ++i) {
        const auto pair = std::to_integer<uint32_t>(codes[i / 2]);
        target[i - n_before] = kE2m1[i % 2 == 0 ? pair & 15u : pair >> 4];
    }
}

void StoredTensor::read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const {
    const std::byte* codes = loaded.find(weight_bytes(first, n));
    if (form == StoredForm::plain) return decode(weight.type, codes, n, target);
    const int64_t n_bits = n_element_bits(), n_bytes_before = first * n_bits / 8;
    while (n > 0) {
        const int64_t column = first % n_columns;
        const int64_t tile_end = (column / tile_columns + 1) * tile_columns;
        const int64_t n_here = std::min(n, std::min(tile_end, n_columns) - column);
        decode_codes(codes + (first * n_bits / 8 - n_bytes_before), first, n_here, target);
        const float scale = scale_at(scale_index(first));
        const int64_t matrix = first / (n_rows * n_columns);
        const float factor = factors.empty() ? 1.0f : factors[static_cast<size_t>(matrix)];
        for (int64_t i = 0; i < n_here; ++i) target[i] = target[i] * scale * factor;
        first += n_here;
        target += n_here;
        n -= n_here;
    }
}

void StoredTensor::check_scale(int64_t element, const std::string& source) const {
    if (form == StoredForm::plain) return;
    const int64_t index = scale_index(element);
    const float scale = scale_at(index);
    if (std::isfinite(scale)) return;
    fail(ErrorCode::bad_file, "{}: tensor {}: element {} is {}", source, scales.name, index, scale);
}

std::optional<DType> StoredTensor::block_type() const {
    if (form == StoredForm::nvfp4 && n_columns % (kNvfp4Tile * kNvfp4Tiles) == 0)
        return DType::nvfp4;
    if (form == StoredForm::mxfp4) return DType::mxfp4;
    return std::nullopt;
}

void StoredTensor::repack_row(const std::byte* codes, int64_t row, std::byte* target,
                              const std::string& source) const {
    const bool is_nvfp4 = form == StoredForm::nvfp4;
    const int64_t tile = is_nvfp4 ? kNvfp4Tile : kMxfp4Tile;
    const int64_t tiles_per_block = is_nvfp4 ? kNvfp4Tiles : 1;
    const int64_t n_tiles = n_columns / tile;
    for (int64_t i = 0; i < n_tiles; ++i) {
        const int64_t index = row * n_tiles + i;
        if (!std::isfinite(scale_at(index) * kLargestE2m1)) {
            check_scale(index * tile, source);
            fail(ErrorCode::bad_file, "{}: tensor {}: the scale {} of element {} is out of range",
                 source, weight.name, scale_at(index), index * tile);
        }
        const std::byte scale = scales.bytes[static_cast<size_t>(index)];
        // GGUF's E4M3 scales have no sign: the codes take it over.
        const bool is_negative = is_nvfp4 && (scale & std::byte{0x80}) != std::byte{0};
        const int64_t place = i % tiles_per_block;
        target[place] = is_negative ? scale & std::byte{0x7f} : scale;
        split_halves(codes + i * tile / 2, tile / 2, is_negative ? std::byte{0x88} : std::byte{0},
                     target + tiles_per_block + place * tile / 2);
        if (place == tiles_per_block - 1) target += tiles_per_block * (1 + tile / 2);
    }
}

void StoredTensor::repack(int64_t first, int64_t n, std::byte* target, const std::string& source,
                          const LoadedBytes& loaded) const {
    const DTypeInfo& info = dtype_info(block_type().value());
    const int64_t row_bytes = n_columns / info.block_size * info.block_bytes;
    const std::byte* codes = loaded.find(weight_bytes(first * n_columns, n * n_columns));
    for (int64_t row = 0; row < n; ++row)
        repack_row(codes + row * n_columns / 2, first + row, target + row * row_bytes, source);
}

}  // namespace nemo
