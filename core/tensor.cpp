#include "core/tensor.h"

#include "core/error.h"

namespace nemo {

namespace {

constexpr DTypeInfo kDTypes[] = {
    {DType::f32, "F32", 1, 4},         {DType::f16, "F16", 1, 2},
    {DType::q4_0, "Q4_0", 32, 18},     {DType::q4_1, "Q4_1", 32, 20},
    {DType::q5_0, "Q5_0", 32, 22},     {DType::q5_1, "Q5_1", 32, 24},
    {DType::q8_0, "Q8_0", 32, 34},     {DType::q2_k, "Q2_K", 256, 84},
    {DType::q3_k, "Q3_K", 256, 110},   {DType::q4_k, "Q4_K", 256, 144},
    {DType::q5_k, "Q5_K", 256, 176},   {DType::q6_k, "Q6_K", 256, 210},
    {DType::iq4_nl, "IQ4_NL", 32, 18}, {DType::iq4_xs, "IQ4_XS", 256, 136},
    {DType::bf16, "BF16", 1, 2},       {DType::mxfp4, "MXFP4", 32, 17},
    {DType::nvfp4, "NVFP4", 64, 36},
};

}  // namespace

const DTypeInfo* find_dtype(uint32_t gguf_id) {
    for (const DTypeInfo& info : kDTypes)
        if (static_cast<uint32_t>(info.dtype) == gguf_id) return &info;
    return nullptr;
}

const DTypeInfo& dtype_info(DType dtype) {
    const DTypeInfo* info = find_dtype(static_cast<uint32_t>(dtype));
    NEMO_ASSERT(info != nullptr);
    return *info;
}

int64_t TensorView::row_bytes() const {
    const DTypeInfo& info = dtype_info(dtype);
    return dims[0] / info.block_size * info.block_bytes;
}

std::string dims_text(const std::array<int64_t, 4>& dims) {
    size_t n = dims.size();
    while (n > 1 && dims[n - 1] == 1) --n;
    std::string text = "[";
    for (size_t i = 0; i < n; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
    return text + "]";
}

}  // namespace nemo
