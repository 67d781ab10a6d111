#include "convert/tensor_source.h"

#include "core/error.h"
#include "quant/half.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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

bool is_readable(SafetensorsType type) {
    return type == SafetensorsType::f32 || type == SafetensorsType::f16 ||
           type == SafetensorsType::bf16 || type == SafetensorsType::f8_e4m3;
}

// Little-endian values without alignment.
template <class T, class Convert>
void decode_values(const std::byte* source, int64_t n, float* target, Convert convert) {
    for (int64_t i = 0; i < n; ++i) {
        T bits;
        std::memcpy(&bits, source + i * static_cast<int64_t>(sizeof bits), sizeof bits);
        target[i] = convert(bits);
    }
}

void decode(const SafetensorsView& view, int64_t first, int64_t n, float* target) {
    const auto at = [&](int64_t n_element_bytes) {
        return view.bytes.data() + first * n_element_bytes;
    };
    switch (view.type) {
        case SafetensorsType::f32:
            std::memcpy(target, at(4), static_cast<size_t>(n) * sizeof(float));
            return;
        case SafetensorsType::f16:
            decode_values<uint16_t>(at(2), n, target, f16_to_f32);
            return;
        case SafetensorsType::bf16:
            decode_values<uint16_t>(at(2), n, target, bf16_to_f32);
            return;
        case SafetensorsType::f8_e4m3:
            decode_values<uint8_t>(at(1), n, target, e4m3_to_f32);
            return;
        default:
            NEMO_ASSERT(is_readable(view.type));
    }
}

// Multi-token prediction, activation and cache scales, and rotary tables: not part of what runs.
bool is_dispensable(const std::string& name) {
    return name.starts_with("mtp.") || name.find(".mtp.") != std::string::npos ||
           name.ends_with(".input_scale") || name.ends_with(".k_scale") ||
           name.ends_with(".v_scale") || name.ends_with("rotary_emb.inv_freq");
}

}  // namespace

void TensorSource::read(int64_t first, int64_t n, float* target) const {
    const int64_t n_per_part = parts_.front().view.n_elements();
    while (n > 0) {
        const int64_t offset = first % n_per_part;
        const int64_t n_here = std::min(n, n_per_part - offset);
        read_part(parts_[static_cast<size_t>(first / n_per_part)], offset, n_here, target);
        first += n_here;
        target += n_here;
        n -= n_here;
    }
}

void TensorSource::read_part(const Part& part, int64_t first, int64_t n, float* target) const {
    decode(part.view, first, n, target);
    for (int64_t i = 0; i < n; ++i) {
        float value = target[i] * part.scale;
        if (transform_ == Transform::negative_exp) value = -std::exp(value);
        if (!std::isfinite(value)) {
            fail(ErrorCode::bad_file, "{}: tensor {}: element {} is {}", source_, part.view.name,
                 first + i, std::isfinite(target[i]) ? value : target[i]);
        }
        target[i] = value;
    }
}

uint64_t TensorSource::n_bytes() const {
    uint64_t n = 0;
    for (const Part& part : parts_) n += part.view.bytes.size();
    return n;
}

WeightSourcePtr CheckpointTensors::bind(const TensorSpec& spec) {
    using Transform = TensorSource::Transform;
    const Transform transform =
        spec.role == TensorRole::ssm_a ? Transform::negative_exp : Transform::none;
    std::vector<TensorSource::Part> parts;
    if (spec.role == TensorRole::experts_up || spec.role == TensorRole::experts_down) {
        parts = bind_experts(spec);
    } else {
        parts.push_back(bind_part(names_.of(spec), checkpoint_shape(spec)));
    }
    return std::make_shared<TensorSource>(std::move(parts), transform, source_);
}

// Native transformers stacks the experts of a layer in one tensor; the hub has one per expert.
std::vector<TensorSource::Part> CheckpointTensors::bind_experts(const TensorSpec& spec) {
    const std::string stacked = names_.of(spec);
    std::vector<TensorSource::Part> parts;
    if (weights_.find(stacked) != nullptr) {
        parts.push_back(bind_part(stacked, checkpoint_shape(spec)));
        return parts;
    }
    const std::vector<int64_t> shape = {spec.dims[1], spec.dims[0]};
    for (int64_t expert = 0; expert < spec.dims[2]; ++expert) {
        parts.push_back(bind_part(names_.of_expert(spec, expert), shape));
    }
    return parts;
}

TensorSource::Part CheckpointTensors::bind_part(const std::string& name,
                                                const std::vector<int64_t>& shape) {
    const SafetensorsView* view = weights_.find(name);
    if (view == nullptr) fail(ErrorCode::bad_file, "{}: tensor {} is missing", source_, name);
    if (!is_readable(view->type)) {
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {}; F32, F16, BF16 and F8_E4M3 can be read (packed 4-bit "
             "checkpoints are not supported yet)",
             source_, name, safetensors_type_name(view->type));
    }
    if (view->shape != shape) {
        fail(ErrorCode::bad_file, "{}: tensor {} has shape {}, but config.json asks for {}",
             source_, name, shape_text(view->shape), shape_text(shape));
    }
    used_.insert(name);
    return {*view, fp8_scale(*view)};
}

// ModelOpt: one scale per tensor, stored beside it.
float CheckpointTensors::fp8_scale(const SafetensorsView& view) {
    const std::string name = view.name + "_scale";
    const SafetensorsView* scale = weights_.find(name);
    const bool is_fp8 = view.type == SafetensorsType::f8_e4m3;
    if (is_fp8 != (scale != nullptr)) {
        fail(ErrorCode::bad_file, "{}: tensor {} has dtype {} {} {}", source_, view.name,
             safetensors_type_name(view.type), is_fp8 ? "but there is no" : "and yet there is a",
             name);
    }
    if (scale == nullptr) return 1.0f;
    if (!is_readable(scale->type) || scale->type == SafetensorsType::f8_e4m3 ||
        scale->n_elements() != 1) {
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {} and shape {}; only one F32 scale per tensor is supported",
             source_, name, safetensors_type_name(scale->type), shape_text(scale->shape));
    }
    float value = 0.0f;
    decode(*scale, 0, 1, &value);
    if (!std::isfinite(value)) {
        fail(ErrorCode::bad_file, "{}: tensor {} is {}", source_, name, value);
    }
    used_.insert(name);
    return value;
}

std::vector<std::string> CheckpointTensors::unused_tensors() const {
    std::vector<std::string> names;
    for (const SafetensorsFile& file : weights_.files()) {
        for (const SafetensorsView& view : file.tensors()) {
            if (used_.contains(view.name) || view.name == names_.head() ||
                is_dispensable(view.name)) {
                continue;
            }
            if (names_.is_inside(view.name) && view.name.ends_with(".bias")) {
                fail(ErrorCode::bad_file, "{}: tensor {}: a bias here is not supported", source_,
                     view.name);
            }
            names.push_back(view.name);
        }
    }
    return names;
}

}  // namespace nemo
