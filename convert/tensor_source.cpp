#include "convert/tensor_source.h"

#include "core/error.h"
#include "quant/codec.h"

#include <algorithm>
#include <cmath>

namespace nemo {

namespace {

// The shape in the checkpoint, slowest dimension first.
std::vector<int64_t> checkpoint_shape(const TensorSpec& spec) {
    switch (spec.role) {
        case TensorRole::ssm_a:
        case TensorRole::ssm_d:
        case TensorRole::ssm_norm:
            return {spec.dims[0] * spec.dims[1]};
        case TensorRole::ssm_conv_weight:
            return {spec.dims[1], 1, spec.dims[0]};
        default:
            break;
    }
    std::vector<int64_t> shape(spec.dims.begin(), spec.dims.begin() + spec.n_dims);
    std::ranges::reverse(shape);
    return shape;
}

// Activation and cache scales, and rotary tables: not part of the model, whoever runs it.
bool is_dispensable(const std::string& name) {
    return std::ranges::any_of(
        std::initializer_list<const char*>{".input_scale", ".input_global_scale", "_input_scale",
                                           ".activation_scale", ".q_scale", ".k_scale", ".v_scale",
                                           ".kv_scale", "rotary_emb.inv_freq"},
        [&](const char* suffix) { return name.ends_with(suffix); });
}

// Named like something that a quantizer leaves beside a weight.
bool is_quantizer_part(const std::string& name) {
    const std::string last = name.substr(name.rfind('.') + 1);
    const auto has = [&](const char* part) { return last.find(part) != std::string::npos; };
    return has("scale") || has("zero") || has("packed") || has("blocks") || has("g_idx") ||
           has("qweight");
}

}  // namespace

template <class Visit>
void TensorSource::for_parts(int64_t first, int64_t n, Visit visit) const {
    const int64_t n_per_part = parts_.front().n_elements;
    while (n > 0) {
        const int64_t offset = first % n_per_part;
        const int64_t n_here = std::min(n, n_per_part - offset);
        visit(parts_[static_cast<size_t>(first / n_per_part)], offset, n_here);
        first += n_here;
        n -= n_here;
    }
}

std::vector<MappedRange> TensorSource::ranges(int64_t first, int64_t n) const {
    std::vector<MappedRange> ranges;
    for_parts(first, n, [&](const StoredTensor& part, int64_t offset, int64_t n_here) {
        if (part.weight.file != nullptr)
            ranges.push_back({part.weight.file, part.weight_bytes(offset, n_here)});
    });
    return ranges;
}

void TensorSource::read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const {
    for_parts(first, n, [&](const StoredTensor& part, int64_t offset, int64_t n_here) {
        read_part(part, offset, n_here, target, loaded);
        target += n_here;
    });
}

void TensorSource::read_part(const StoredTensor& part, int64_t first, int64_t n, float* target,
                             const LoadedBytes& loaded) const {
    part.read(first, n, target, loaded);
    if (transform_ == Transform::none && std::isfinite(largest_magnitude(target, n))) return;
    for (int64_t i = 0; i < n; ++i) {
        const float stored = target[i];
        if (transform_ == Transform::negative_exp) target[i] = -std::exp(stored);
        if (transform_ == Transform::plus_one) target[i] = stored + 1.0f;
        if (std::isfinite(target[i])) continue;
        part.check_scale(first + i, source_);
        fail(ErrorCode::bad_file, "{}: tensor {}: element {} is {}", source_, part.weight.name,
             first + i, std::isfinite(stored) ? target[i] : stored);
    }
}

uint64_t TensorSource::n_bytes() const {
    uint64_t n = 0;
    for (const StoredTensor& part : parts_) n += part.n_bytes();
    return n;
}

std::optional<DType> TensorSource::encoded_type() const {
    const std::optional<DType> type = parts_.front().block_type();
    const bool is_same = std::ranges::all_of(
        parts_, [&](const StoredTensor& part) { return part.block_type() == type; });
    return is_same && transform_ == Transform::none ? type : std::nullopt;
}

void TensorSource::read_encoded(int64_t first_row, int64_t n_rows, std::byte* target,
                                const LoadedBytes& loaded) const {
    const DTypeInfo& info = dtype_info(encoded_type().value());
    const int64_t row_bytes = row_length_ / info.block_size * info.block_bytes;
    for_parts(first_row * row_length_, n_rows * row_length_,
              [&](const StoredTensor& part, int64_t offset, int64_t n_here) {
                  const int64_t n_here_rows = n_here / row_length_;
                  part.repack(offset / row_length_, n_here_rows, target, source_, loaded);
                  target += n_here_rows * row_bytes;
              });
}

std::vector<float> TensorSource::factors() const {
    std::vector<float> factors;
    for (const StoredTensor& part : parts_)
        factors.insert(factors.end(), part.factors.begin(), part.factors.end());
    return factors;
}

TensorSource::Transform CheckpointTensors::transform_of(const TensorSpec& spec) const {
    using Transform = TensorSource::Transform;
    if (spec.role == TensorRole::ssm_a) return Transform::negative_exp;
    const bool lacks_one = spec.role == TensorRole::norm && names_.norms_are_weight_plus_one();
    return lacks_one ? Transform::plus_one : Transform::none;
}

WeightSourcePtr CheckpointTensors::bind(const TensorSpec& spec) {
    std::vector<StoredTensor> parts;
    if (spec.role == TensorRole::experts_up || spec.role == TensorRole::experts_down) {
        parts = find_experts(spec);
    } else {
        parts.push_back(stored_.find(names_.of(spec), checkpoint_shape(spec)));
    }
    return std::make_shared<TensorSource>(std::move(parts), transform_of(spec), spec.dims[0],
                                          source_);
}

// Native transformers stacks the experts of a layer in one tensor; the hub has one per expert.
std::vector<StoredTensor> CheckpointTensors::find_experts(const TensorSpec& spec) {
    const std::string stacked = names_.of(spec);
    for (const std::string& name : {stacked, stacked + ".weight"}) {
        if (stored_.contains(name)) return {stored_.find(name, checkpoint_shape(spec))};
    }
    std::vector<StoredTensor> parts;
    const std::vector<int64_t> shape = {spec.dims[1], spec.dims[0]};
    for (int64_t expert = 0; expert < spec.dims[2]; ++expert) {
        parts.push_back(stored_.find(names_.of_expert(spec, expert), shape));
    }
    return parts;
}

std::vector<std::string> CheckpointTensors::unused_tensors(bool prediction_head) const {
    std::vector<std::string> names;
    for (const SafetensorsFile& file : weights_.files()) {
        for (const SafetensorsView& view : file.tensors()) {
            if (stored_.used().contains(view.name) || is_dispensable(view.name)) continue;
            if (!prediction_head && names_.is_prediction(view.name)) continue;
            if (names_.is_inside(view.name) && view.name.ends_with(".bias")) {
                fail(ErrorCode::bad_file, "{}: tensor {}: a bias here is not supported", source_,
                     view.name);
            }
            if (names_.is_inside(view.name) && is_quantizer_part(view.name)) {
                fail(ErrorCode::bad_file, "{}: tensor {} belongs to no weight that can be read",
                     source_, view.name);
            }
            names.push_back(view.name);
        }
    }
    return names;
}

}  // namespace nemo
