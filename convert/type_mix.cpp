#include "convert/type_mix.h"

#include "core/error.h"

#include <algorithm>
#include <cctype>
#include <iterator>

namespace nemo {

namespace {

// A single K format has no number of its own; it gets that of its mix with the least variety.
constexpr OutputType kOutputTypes[] = {
    {"F32", DType::f32, 0, TypeRule::uniform},
    {"F16", DType::f16, 1, TypeRule::uniform},
    {"BF16", DType::bf16, 32, TypeRule::uniform},
    {"Q8_0", DType::q8_0, 7, TypeRule::uniform},
    {"Q4_0", DType::q4_0, 2, TypeRule::uniform},
    {"Q6_K", DType::q6_k, 18, TypeRule::q6_k},
    {"Q5_K_M", DType::q5_k, 17, TypeRule::more_bits},
    {"Q5_K_S", DType::q5_k, 16, TypeRule::q6_k},
    {"Q5_K", DType::q5_k, 16, TypeRule::uniform},
    {"Q5_1", DType::q5_1, 9, TypeRule::uniform},
    {"Q5_0", DType::q5_0, 8, TypeRule::uniform},
    {"Q4_K_M", DType::q4_k, 15, TypeRule::more_bits},
    {"Q4_K_S", DType::q4_k, 14, TypeRule::q4_k_s},
    {"Q4_K", DType::q4_k, 14, TypeRule::uniform},
    {"Q4_1", DType::q4_1, 3, TypeRule::uniform},
    {"IQ4_NL", DType::iq4_nl, 25, TypeRule::iq4},
    {"IQ4_XS", DType::iq4_xs, 30, TypeRule::iq4},
    {"MXFP4", DType::mxfp4, 38, TypeRule::mxfp4},
    {"NVFP4", DType::nvfp4, 39, TypeRule::uniform},
    {"Q3_K_M", DType::q3_k, 12, TypeRule::q3_k_m},
    {"Q3_K", DType::q3_k, 11, TypeRule::uniform},
    {"Q2_K", DType::q2_k, 10, TypeRule::q2_k},
    {"AUTO", DType::q8_0, 0, TypeRule::stored},
};

// Blocks of 32 in place of blocks of 256, then F16.
DType fitting(DType dtype, int64_t row_length) {
    if (row_length % dtype_info(dtype).block_size == 0) return dtype;
    switch (dtype) {
        case DType::q2_k:
        case DType::q3_k:
            return fitting(DType::q4_0, row_length);
        case DType::q4_k:
            return fitting(DType::q5_0, row_length);
        case DType::q5_k:
            return fitting(DType::q5_1, row_length);
        case DType::q6_k:
            return fitting(DType::q8_0, row_length);
        case DType::iq4_xs:
            return fitting(DType::iq4_nl, row_length);
        default:
            return DType::f16;
    }
}

// A place among n, as llama.cpp counts it.
struct Place {
    int64_t i;
    int64_t n;

    // The first and the last eighth, and every third between.
    bool gets_more_bits() const { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }
};

class TypeChooser {
public:
    TypeChooser(const ModelConfig& config, const OutputType& type)
        : config_(config),
          type_(type),
          n_layers_(config.n_blocks()),
          n_values_(config.n_layers(LayerKind::attention) + std::ssize(config.prediction_blocks)) {}

    DType choose(const TensorSpec& spec) {
        if (spec.always_f32) return DType::f32;
        switch (spec.role) {
            case TensorRole::token_embedding:
                return config_.tied_embeddings ? head() : table();
            case TensorRole::output:
                return head();
            case TensorRole::attn_v:
                return attention_value({i_value_++, n_values_});
            case TensorRole::attn_output:
                return attention_output();
            case TensorRole::ffn_down:
                // Where there are experts every layer counts, otherwise only layers like this one.
                return down({config_.has_moe() ? spec.block : i_down_++, n_layers_});
            case TensorRole::shared_down:
                return down({spec.block, n_layers_});
            case TensorRole::experts_down:
                return type_.rule == TypeRule::mxfp4 ? type_.base : down({spec.block, n_layers_});
            case TensorRole::experts_up:
                return type_.base;
            default:
                return other();
        }
    }

private:
    DType head() const {
        if (type_.rule == TypeRule::uniform || type_.rule == TypeRule::stored) return type_.base;
        return type_.rule == TypeRule::mxfp4 ? DType::q8_0 : DType::q6_k;
    }

    DType table() const { return type_.rule == TypeRule::mxfp4 ? DType::q8_0 : type_.base; }

    DType attention_value(Place place) const {
        switch (type_.rule) {
            case TypeRule::more_bits:
                return place.gets_more_bits() ? DType::q6_k : type_.base;
            case TypeRule::q4_k_s:
                return place.i < 4 ? DType::q5_k : type_.base;
            case TypeRule::q3_k_m:
                return place.i < 2 ? DType::q5_k : DType::q4_k;
            case TypeRule::q2_k:
                return DType::q3_k;
            default:
                return other();
        }
    }

    DType attention_output() const {
        if (type_.rule == TypeRule::q3_k_m) return DType::q4_k;
        return type_.rule == TypeRule::q2_k ? DType::q3_k : other();
    }

    DType down(Place place) const {
        switch (type_.rule) {
            case TypeRule::more_bits:
                return place.gets_more_bits() ? DType::q6_k : type_.base;
            case TypeRule::q4_k_s:
            case TypeRule::iq4:
                return place.i < place.n / 8 ? DType::q5_k : type_.base;
            case TypeRule::q3_k_m:
                return place.i < place.n / 16 ? DType::q5_k : DType::q4_k;
            case TypeRule::q2_k:
                return DType::q3_k;
            default:
                return other();
        }
    }

    DType other() const {
        return type_.rule == TypeRule::mxfp4 && config_.has_moe() ? DType::q8_0 : type_.base;
    }

    const ModelConfig& config_;
    const OutputType& type_;
    int64_t n_layers_;
    int64_t n_values_;
    int64_t i_value_ = 0;
    int64_t i_down_ = 0;
};

}  // namespace

std::string output_type_names() {
    std::string names;
    for (const OutputType& type : kOutputTypes)
        names += (names.empty() ? "" : ", ") + std::string(type.name);
    return names;
}

std::optional<OutputType> output_type_from_name(std::string_view name) {
    std::string upper(name);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const auto* found = std::ranges::find(kOutputTypes, upper, &OutputType::name);
    return found == std::end(kOutputTypes) ? std::nullopt : std::optional(*found);
}

OutputType uniform_output_type(DType dtype) {
    OutputType type = output_type_from_name(dtype_info(dtype).name).value();
    type.rule = TypeRule::uniform;
    return type;
}

std::vector<TensorType> choose_types(const ModelConfig& config,
                                     const std::vector<TensorSpec>& specs, const OutputType& type) {
    TypeChooser chooser(config, type);
    std::vector<TensorType> types;
    for (const TensorSpec& spec : specs) {
        DType wanted = chooser.choose(spec);
        if (wanted == DType::nvfp4 && !takes_scale(spec.role)) wanted = DType::iq4_nl;
        types.push_back({wanted, fitting(wanted, spec.dims[0])});
    }
    return types;
}

}  // namespace nemo
