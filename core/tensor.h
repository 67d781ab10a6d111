// Number formats as GGUF numbers them, and a non-owning view of a tensor in one of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nemo {

// The values are GGUF's type ids.
enum class DType : uint32_t {
    f32 = 0,
    f16 = 1,
    q4_0 = 2,
    q4_1 = 3,
    q5_0 = 6,
    q5_1 = 7,
    q8_0 = 8,
    q2_k = 10,
    q3_k = 11,
    q4_k = 12,
    q5_k = 13,
    q6_k = 14,
    iq4_nl = 20,
    iq4_xs = 23,
    bf16 = 30,
    mxfp4 = 39,
    nvfp4 = 40,
};

struct DTypeInfo {
    DType dtype;
    std::string_view name;  // "Q4_K"
    int64_t block_size;     // elements per block
    int64_t block_bytes;    // bytes per block
};

// nullptr for an id that nemo does not read.
const DTypeInfo* find_dtype(uint32_t gguf_id);
const DTypeInfo& dtype_info(DType dtype);

// A tensor inside a mapped file or a buffer. Row-major; dims are in GGUF order, dims[0] is the row
// length (the input size of a matmul), unused dims are 1. A TensorView handed out by ModelFile is
// in bounds, and its rows are whole blocks.
struct TensorView {
    std::string name;
    DType dtype = DType::f32;
    std::array<int64_t, 4> dims = {1, 1, 1, 1};
    const std::byte* data = nullptr;

    int64_t row_length() const { return dims[0]; }
    int64_t n_rows() const { return dims[1] * dims[2] * dims[3]; }
    int64_t n_elements() const { return dims[0] * n_rows(); }
    int64_t row_bytes() const;
    int64_t n_bytes() const { return row_bytes() * n_rows(); }
    const std::byte* row(int64_t index) const { return data + index * row_bytes(); }
};

// "[256, 4096]": the dims without trailing ones, for messages.
std::string dims_text(const std::array<int64_t, 4>& dims);

}  // namespace nemo
