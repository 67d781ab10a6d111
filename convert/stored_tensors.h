// Finds the tensors of a checkpoint in whichever form a quantizer left them. What is stored
// decides; the checkpoint's own declarations are only compared with it.
//
// For a linear layer X of shape [out, in] (experts in one tensor: [n, out, in], and every scale
// has the dimension n too or is shared):
//   fp8    X.weight F8_*, X.weight_scale or X.weight_scale_inv: one, [out], [out, 1], or one per
//          tile (ModelOpt: [.., 1, .., 1]); U8 or F8_E8M0 scales: tiles of 1 x 32
//   nvfp4  ModelOpt: X.weight U8 [out, in/2], X.weight_scale F8_E4M3 [out, in/16],
//          X.weight_scale_2 F32; compressed-tensors: X.weight_packed, X.weight_scale,
//          X.weight_global_scale, the reciprocal of the factor
//   mxfp4  X.weight or X.weight_packed U8 [out, in/2], X.weight_scale U8 or F8_E8M0 [out, in/32];
//          or X_blocks [.., in/32, 16] and X_scales
#pragma once

#include "convert/quantization_config.h"
#include "convert/safetensors.h"
#include "convert/stored_tensor.h"

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

namespace nemo {

class StoredTensors {
public:
    // `source` names the checkpoint in errors. `weights` must outlive this object.
    StoredTensors(const SafetensorsSet& weights, QuantizationConfig quantization,
                  std::string source);

    bool contains(const std::string& name) const;
    // The tensor that is called `name` and has this shape where it is not quantized. Throws
    // Error{bad_file} naming tensors and the two things that disagree if it is missing, has another
    // shape, a dtype that cannot be read, a scale too few or too many, or one that is not finite
    // (of FP8 tiles and 4-bit floats: when they are read).
    StoredTensor find(const std::string& name, const std::vector<int64_t>& shape);

    // The names of the checkpoint's tensors that find() needed.
    const std::unordered_set<std::string>& used() const { return used_; }

private:
    struct Request;
    const SafetensorsView* companion(const std::string& name, const char* suffix) const;
    const SafetensorsView& take(const std::string& name, const char* suffix,
                                const SafetensorsView& owner);
    void take_plain(const Request& request, StoredTensor& tensor);
    void take_fp8(const Request& request, StoredTensor& tensor);
    void take_packed(const Request& request, StoredTensor& tensor);
    void take_blocks(const Request& request, StoredTensor& tensor);
    void set_tile(const Request& request, StoredTensor& tensor) const;
    std::vector<float> float_values(const SafetensorsView& view) const;
    std::vector<float> take_factors(const Request& request, const StoredTensor& tensor);
    void check_shape(const SafetensorsView& view, const std::vector<int64_t>& wanted,
                     const Request& request) const;
    void check_nothing_left(const Request& request, const StoredTensor& tensor) const;

    const SafetensorsSet& weights_;
    QuantizationConfig quantization_;
    std::string source_;
    std::unordered_set<std::string> used_;
};

}  // namespace nemo
