#include "convert/gguf_source.h"

#include "core/error.h"
#include "quant/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nemo {

const TensorView* find_factors(const TensorView& tensor, const ModelFile& file) {
    if (tensor.dtype != DType::nvfp4) return nullptr;
    const TensorView* factors = file.find(scale_name(tensor.name));
    const bool fits = factors != nullptr && factors->dtype == DType::f32 &&
                      factors->n_elements() == tensor.dims[2] && tensor.dims[3] == 1;
    return fits ? factors : nullptr;
}

std::vector<float> read_factors(const TensorView& tensor, const ModelFile& file) {
    const TensorView* view = find_factors(tensor, file);
    if (view == nullptr) return {};
    std::vector<float> factors(static_cast<size_t>(view->n_elements()));
    decode_row(view->dtype, view->data, factors.data(), view->n_elements());
    return factors;
}

void apply_factors(std::span<const float> factors, const TensorView& tensor, int64_t first,
                   std::span<float> values) {
    if (factors.empty()) return;
    const int64_t n_per_matrix = tensor.dims[0] * tensor.dims[1];
    for (size_t i = 0; i < values.size(); ++i)
        values[i] *= factors[static_cast<size_t>((first + static_cast<int64_t>(i)) / n_per_matrix)];
}

std::string fused_name(const TensorSpec& spec) {
    const bool is_part = spec.role == TensorRole::attn_q || spec.role == TensorRole::attn_k ||
                         spec.role == TensorRole::attn_v;
    return is_part ? fmt::format("blk.{}.attn_qkv.weight", spec.block) : "";
}

GgufSource::GgufSource(std::shared_ptr<const ModelFile> file, const TensorView& tensor,
                       std::optional<uint32_t> checksum)
    : file_(std::move(file)),
      tensor_(tensor),
      checksum_(checksum),
      factors_(read_factors(tensor_, *file_)) {}

std::span<const std::byte> GgufSource::blocks(int64_t first, int64_t n) const {
    const DTypeInfo& info = dtype_info(tensor_.dtype);
    const int64_t begin = first / info.block_size;
    const int64_t end = (first + n + info.block_size - 1) / info.block_size;
    return {tensor_.data + begin * info.block_bytes,
            static_cast<size_t>((end - begin) * info.block_bytes)};
}

std::vector<MappedRange> GgufSource::ranges(int64_t first, int64_t n) const {
    return {file_->range_of(blocks(first, n))};
}

// Whole blocks are decoded in place; a range that cuts one takes a detour.
void GgufSource::decode(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const {
    const int64_t block_size = dtype_info(tensor_.dtype).block_size;
    const int64_t n_before = first % block_size;
    const int64_t n_whole = (n_before + n + block_size - 1) / block_size * block_size;
    const std::byte* bytes = loaded.find(blocks(first, n));
    if (n_whole == n) {
        decode_row(tensor_.dtype, bytes, target, n);
        return;
    }
    std::vector<float> values(static_cast<size_t>(n_whole));
    decode_row(tensor_.dtype, bytes, values.data(), n_whole);
    std::copy_n(values.begin() + n_before, n, target);
}

void GgufSource::read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const {
    decode(first, n, target, loaded);
    apply_factors(factors_, tensor_, first, {target, static_cast<size_t>(n)});
    for (int64_t i = 0; i < n; ++i)
        if (!std::isfinite(target[i]))
            fail(ErrorCode::bad_file, "{}: tensor {}: element {} is {}", file_->path(),
                 tensor_.name, first + i, target[i]);
}

void GgufSource::read_encoded(int64_t first_row, int64_t n_rows, std::byte* target,
                              const LoadedBytes& loaded) const {
    const int64_t row_length = tensor_.dims[0];
    const std::span<const std::byte> rows = blocks(first_row * row_length, n_rows * row_length);
    std::memcpy(target, loaded.find(rows), rows.size());
}

}  // namespace nemo
