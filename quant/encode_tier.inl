// Everything an encode_tier_*.cpp compiles for its instruction set, in an unnamed namespace. Before
// it, the including file selects the set; after it, it exports kTier.

#define NEMO_INLINE_MEMBER inline __attribute__((always_inline))

#include "quant/encode_lanes.inl"

#include "quant/encode_fit.inl"

#include "quant/encode_block32.inl"
#include "quant/encode_k.inl"

#include "quant/encode_plain.inl"

WeightedEncoder encoder_of_tier(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::f16:
        case DType::bf16:
            return nullptr;
        case DType::q4_0:
            return encode_q4_0;
        case DType::q4_1:
            return encode_q4_1;
        case DType::q5_0:
            return encode_q5_0;
        case DType::q5_1:
            return encode_q5_1;
        case DType::q8_0:
            return encode_q8_0;
        case DType::q2_k:
            return encode_q2_k;
        case DType::q3_k:
            return encode_q3_k;
        case DType::q4_k:
            return encode_q4_k;
        case DType::q5_k:
            return encode_q5_k;
        case DType::q6_k:
            return encode_q6_k;
        case DType::iq4_nl:
            return encode_iq4_nl;
        case DType::iq4_xs:
            return encode_iq4_xs;
        case DType::mxfp4:
            return encode_mxfp4;
        case DType::nvfp4:
            return encode_nvfp4;
    }
    return nullptr;
}

constexpr RowTier kTier = {encoder_of_tier, encode_plain_q8_0, decode_bf16_row,
                           largest_magnitude_of_row};
