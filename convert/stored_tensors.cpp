#include "convert/stored_tensors.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>

namespace nemo {

namespace {

// Of everything that may lie beside a weight; each is needed by some form.
constexpr const char* kScale = "_scale";
constexpr const char* kInverseScale = "_scale_inv";  // DeepSeek's name; a factor all the same
constexpr const char* kSecondScale = "_scale_2";
constexpr const char* kGlobalScale = "_global_scale";
constexpr const char* kPacked = "_packed";
constexpr const char* kBlocks = "_blocks";
constexpr const char* kScales = "_scales";
constexpr const char* kCompanions[] = {kScale,  kInverseScale, kSecondScale, kGlobalScale,
                                       kPacked, kBlocks,       kScales,      "_zero_point"};

constexpr int64_t kDefaultTile = 128;  // of FP8 checkpoints that do not declare one
constexpr int64_t kExponentTile = 32;  // of the MX formats

bool is_float(SafetensorsType type) {
    return type == SafetensorsType::f32 || type == SafetensorsType::f16 ||
           type == SafetensorsType::bf16;
}

bool is_fp8(SafetensorsType type) {
    return type == SafetensorsType::f8_e4m3 || type == SafetensorsType::f8_e5m2;
}

bool is_exponent(SafetensorsType type) {
    return type == SafetensorsType::u8 || type == SafetensorsType::f8_e8m0;
}

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

std::vector<int64_t> with_last(std::vector<int64_t> shape, std::initializer_list<int64_t> last) {
    shape.pop_back();
    shape.insert(shape.end(), last);
    return shape;
}

// Without a last 1, and ModelOpt's [.., 1, .., 1] as [.., ..]: what tells forms of scales apart.
std::vector<int64_t> plain_scale_shape(std::vector<int64_t> shape, size_t n_weight_dims) {
    if (shape.size() == n_weight_dims + 2 && shape.back() == 1 && shape[shape.size() - 3] == 1) {
        shape.pop_back();
        shape.erase(shape.end() - 2);
    }
    return shape;
}

}  // namespace

struct StoredTensors::Request {
    const std::string& name;
    const std::vector<int64_t>& shape;
    int64_t n_matrices;

    int64_t n_rows() const { return shape[shape.size() - 2]; }
    int64_t n_columns() const { return shape.back(); }
};

StoredTensors::StoredTensors(const SafetensorsSet& weights, QuantizationConfig quantization,
                             std::string source)
    : weights_(weights), quantization_(std::move(quantization)), source_(std::move(source)) {}

// Experts in one tensor have no ".weight"; their scales may be named as if they had.
const SafetensorsView* StoredTensors::companion(const std::string& name, const char* suffix) const {
    const SafetensorsView* view = weights_.find(name + suffix);
    if (view != nullptr || name.ends_with(".weight")) return view;
    view = weights_.find(name + "_weight" + suffix);
    return view != nullptr ? view : weights_.find(name + ".weight" + suffix);
}

const SafetensorsView& StoredTensors::take(const std::string& name, const char* suffix,
                                           const SafetensorsView& owner) {
    const SafetensorsView* view = companion(name, suffix);
    if (view == nullptr)
        fail(ErrorCode::bad_file, "{}: tensor {} has dtype {} but there is no {}{}", source_,
             owner.name, safetensors_type_name(owner.type), name, suffix);
    used_.insert(view->name);
    return *view;
}

bool StoredTensors::contains(const std::string& name) const {
    return weights_.find(name) != nullptr || companion(name, kPacked) != nullptr ||
           companion(name, kBlocks) != nullptr;
}

StoredTensor StoredTensors::find(const std::string& name, const std::vector<int64_t>& shape) {
    const Request request = {name, shape, shape.size() == 3 ? shape[0] : 1};
    const SafetensorsView* view = weights_.find(name);
    const bool is_blocks = view == nullptr && companion(name, kBlocks) != nullptr;
    if (view == nullptr) view = companion(name, is_blocks ? kBlocks : kPacked);
    if (view == nullptr) fail(ErrorCode::bad_file, "{}: tensor {} is missing", source_, name);
    used_.insert(view->name);
    StoredTensor tensor;
    tensor.weight = *view;
    tensor.n_elements = 1;
    for (const int64_t dim : shape) tensor.n_elements *= dim;
    if (is_blocks)
        take_blocks(request, tensor);
    else if (is_fp8(view->type))
        take_fp8(request, tensor);
    else if (view->type == SafetensorsType::u8 || view->name != name)
        take_packed(request, tensor);
    else
        take_plain(request, tensor);
    check_nothing_left(request, tensor);
    quantization_.check(name, tensor.form, source_);
    return tensor;
}

void StoredTensors::check_shape(const SafetensorsView& view, const std::vector<int64_t>& wanted,
                                const Request& request) const {
    if (view.shape == wanted) return;
    const std::string because = wanted == request.shape
                                    ? fmt::format("config.json asks for {}", shape_text(wanted))
                                    : fmt::format("{} is expected for weights of {}",
                                                  shape_text(wanted), shape_text(request.shape));
    fail(ErrorCode::bad_file, "{}: tensor {} has shape {}, but {}", source_, view.name,
         shape_text(view.shape), because);
}

void StoredTensors::check_nothing_left(const Request& request, const StoredTensor& tensor) const {
    for (const char* suffix : kCompanions) {
        const SafetensorsView* view = companion(request.name, suffix);
        if (view == nullptr || used_.contains(view->name)) continue;
        fail(ErrorCode::bad_file, "{}: tensor {} has dtype {} and yet there is a {}", source_,
             tensor.weight.name, safetensors_type_name(tensor.weight.type), view->name);
    }
}

void StoredTensors::take_plain(const Request& request, StoredTensor& tensor) {
    if (!is_float(tensor.weight.type))
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {}; F32, F16, BF16, FP8, NVFP4 and MXFP4 can be read",
             source_, tensor.weight.name, safetensors_type_name(tensor.weight.type));
    check_shape(tensor.weight, request.shape, request);
}

// ---- FP8 ----

void StoredTensors::take_fp8(const Request& request, StoredTensor& tensor) {
    check_shape(tensor.weight, request.shape, request);
    if (request.shape.size() < 2)
        fail(ErrorCode::bad_file, "{}: tensor {} is a vector with dtype {}", source_, request.name,
             safetensors_type_name(tensor.weight.type));
    const bool has_inverse = companion(request.name, kInverseScale) != nullptr;
    tensor.form = StoredForm::fp8;
    tensor.scales = take(request.name, has_inverse ? kInverseScale : kScale, tensor.weight);
    tensor.has_exponent_scales = is_exponent(tensor.scales.type);
    if (!is_float(tensor.scales.type) && !tensor.has_exponent_scales)
        fail(ErrorCode::bad_file, "{}: tensor {} has dtype {}; FP8 scales are F32, F16, BF16 or U8",
             source_, tensor.scales.name, safetensors_type_name(tensor.scales.type));
    tensor.n_rows = request.n_rows();
    tensor.n_columns = request.n_columns();
    set_tile(request, tensor);
    if (is_float(tensor.scales.type)) float_values(tensor.scales);
}

void StoredTensors::set_tile(const Request& request, StoredTensor& tensor) const {
    const std::vector<int64_t> shape = plain_scale_shape(tensor.scales.shape, request.shape.size());
    const int64_t n_rows = request.n_rows(), n_columns = request.n_columns();
    const std::vector<int64_t> matrices(request.shape.begin(), request.shape.end() - 2);
    const auto is = [&](std::initializer_list<int64_t> last) {
        std::vector<int64_t> wanted = matrices;
        wanted.insert(wanted.end(), last);
        return shape == wanted;
    };
    const auto use = [&](int64_t rows, int64_t columns) {
        tensor.tile_rows = rows;
        tensor.tile_columns = columns;
    };
    const QuantizationDeclaration* declared = quantization_.fp8_tile_declaration();
    const auto [rows, columns] =
        declared != nullptr ? *declared->fp8_tile : std::array{kDefaultTile, kDefaultTile};
    if (is({ceil_div(n_rows, rows), ceil_div(n_columns, columns)})) return use(rows, columns);
    if (is({n_rows, ceil_div(n_columns, kExponentTile)}) && tensor.has_exponent_scales)
        return use(1, kExponentTile);
    const bool is_tiled = declared != nullptr && tensor.scales.name.ends_with(kInverseScale);
    if (!is_tiled) {
        tensor.shares_scales = tensor.scales.n_elements() == 1;
        if (tensor.shares_scales || is({}) || is({1}) || is({1, 1})) return use(n_rows, n_columns);
        if (is({n_rows}) || is({n_rows, 1})) return use(1, n_columns);
    }
    const std::string origin =
        declared != nullptr ? "which " + declared->source + " declares" : "the usual size";
    fail(ErrorCode::bad_file,
         "{}: tensor {} has shape {}, which fits weights of {} neither as one scale, nor as one "
         "per row, nor with tiles of {}x{}, {}",
         source_, tensor.scales.name, shape_text(tensor.scales.shape), shape_text(request.shape),
         rows, columns, origin);
}

// ---- 4-bit floats ----

void StoredTensors::take_packed(const Request& request, StoredTensor& tensor) {
    if (tensor.weight.type != SafetensorsType::u8 || request.shape.size() < 2)
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {}; packed weights are read as U8 pairs of 4-bit floats",
             source_, tensor.weight.name, safetensors_type_name(tensor.weight.type));
    tensor.scales = take(request.name, kScale, tensor.weight);
    const SafetensorsType scale_type = tensor.scales.type;
    const bool is_nvfp4 = scale_type == SafetensorsType::f8_e4m3;
    if (!is_nvfp4 && !is_exponent(scale_type))
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {}; the scales of 4-bit floats are F8_E4M3 or U8", source_,
             tensor.scales.name, safetensors_type_name(scale_type));
    tensor.form = is_nvfp4 ? StoredForm::nvfp4 : StoredForm::mxfp4;
    tensor.has_exponent_scales = !is_nvfp4;
    tensor.n_rows = request.n_rows();
    tensor.n_columns = request.n_columns();
    tensor.tile_rows = 1;
    tensor.tile_columns = is_nvfp4 ? 16 : kExponentTile;
    if (tensor.n_columns % tensor.tile_columns != 0)
        fail(ErrorCode::bad_file, "{}: tensor {} is {}, but its rows of {} are no multiple of {}",
             source_, tensor.weight.name, stored_form_name(tensor.form), tensor.n_columns,
             tensor.tile_columns);
    check_shape(tensor.weight, with_last(request.shape, {tensor.n_columns / 2}), request);
    check_shape(tensor.scales, with_last(request.shape, {tensor.n_columns / tensor.tile_columns}),
                request);
    if (is_nvfp4) tensor.factors = take_factors(request, tensor);
}

void StoredTensors::take_blocks(const Request& request, StoredTensor& tensor) {
    tensor.scales = take(request.name, kScales, tensor.weight);
    tensor.form = StoredForm::mxfp4;
    tensor.has_exponent_scales = true;
    for (const SafetensorsView* view : {&tensor.weight, &tensor.scales})
        if (!is_exponent(view->type) || request.shape.size() < 2)
            fail(ErrorCode::bad_file, "{}: tensor {} has dtype {}, but MXFP4 is U8", source_,
                 view->name, safetensors_type_name(view->type));
    tensor.n_rows = request.n_rows();
    tensor.n_columns = request.n_columns();
    tensor.tile_rows = 1;
    tensor.tile_columns = kExponentTile;
    const int64_t n_tiles = ceil_div(tensor.n_columns, kExponentTile);
    check_shape(tensor.weight, with_last(request.shape, {n_tiles, kExponentTile / 2}), request);
    check_shape(tensor.scales, with_last(request.shape, {n_tiles}), request);
    if (tensor.n_columns % kExponentTile != 0)
        fail(ErrorCode::bad_file,
             "{}: tensor {} is MXFP4, but its rows of {} are no multiple of {}", source_,
             tensor.weight.name, tensor.n_columns, kExponentTile);
}

// One per matrix; a single one is for all.
std::vector<float> StoredTensors::take_factors(const Request& request, const StoredTensor& tensor) {
    const bool is_reciprocal = companion(request.name, kGlobalScale) != nullptr;
    const SafetensorsView& view =
        take(request.name, is_reciprocal ? kGlobalScale : kSecondScale, tensor.weight);
    std::vector<int64_t> shape = view.shape;
    while (!shape.empty() && shape.back() == 1) shape.pop_back();
    const bool is_per_matrix = shape == std::vector<int64_t>{request.n_matrices};
    if (!is_float(view.type) || !(shape.empty() || is_per_matrix))
        fail(ErrorCode::bad_file,
             "{}: tensor {} has dtype {} and shape {}; one F32 factor per matrix is expected for "
             "weights of {}",
             source_, view.name, safetensors_type_name(view.type), shape_text(view.shape),
             shape_text(request.shape));
    std::vector<float> factors = float_values(view);
    for (float& factor : factors) {
        const float stored = factor;
        if (is_reciprocal) factor = 1.0f / stored;
        if (!std::isfinite(factor))
            fail(ErrorCode::bad_file, "{}: tensor {} is {}, whose reciprocal is the factor",
                 source_, view.name, stored);
    }
    factors.resize(static_cast<size_t>(request.n_matrices), factors.front());
    return factors;
}

std::vector<float> StoredTensors::float_values(const SafetensorsView& view) const {
    const StoredTensor plain = {.weight = view, .n_elements = view.n_elements()};
    std::vector<float> values(static_cast<size_t>(plain.n_elements));
    plain.read(0, plain.n_elements, values.data(), {});
    for (size_t i = 0; i < values.size(); ++i) {
        if (std::isfinite(values[i])) continue;
        const std::string place = values.size() == 1 ? "" : fmt::format(": element {}", i);
        fail(ErrorCode::bad_file, "{}: tensor {}{} is {}", source_, view.name, place, values[i]);
    }
    return values;
}

}  // namespace nemo
