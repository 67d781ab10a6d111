#include "quant/codec.h"

#include "core/error.h"
#include "quant/encode_tier.h"
#include "quant/formats.h"

namespace nemo {

namespace {

using Decoder = void (*)(const std::byte* source, float* target, int64_t n);
using Encoder = void (*)(const float* source, std::byte* target, int64_t n);

const RowTier& best_tier() {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return avx512_tier();
    if (__builtin_cpu_supports("avx2")) return avx2_tier();
    return baseline_tier();
}

Decoder decoder_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return decode_f32;
        case DType::f16:
            return decode_f16;
        case DType::bf16:
            return best_tier().decode_bf16;
        case DType::q4_0:
            return decode_q4_0;
        case DType::q4_1:
            return decode_q4_1;
        case DType::q5_0:
            return decode_q5_0;
        case DType::q5_1:
            return decode_q5_1;
        case DType::q8_0:
            return decode_q8_0;
        case DType::q2_k:
            return decode_q2_k;
        case DType::q3_k:
            return decode_q3_k;
        case DType::q4_k:
            return decode_q4_k;
        case DType::q5_k:
            return decode_q5_k;
        case DType::q6_k:
            return decode_q6_k;
        case DType::iq4_nl:
            return decode_iq4_nl;
        case DType::iq4_xs:
            return decode_iq4_xs;
        case DType::mxfp4:
            return decode_mxfp4;
        case DType::nvfp4:
            return decode_nvfp4;
    }
    return nullptr;
}

// The formats whose default encoding is fixed: plain conversions, and the reference encoders of
// Q8_0 and Q4_0, which files and tests expect bit for bit.
Encoder plain_encoder_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return encode_f32;
        case DType::f16:
            return encode_f16;
        case DType::bf16:
            return encode_bf16;
        case DType::q4_0:
            return encode_q4_0;
        case DType::q8_0:
            return best_tier().encode_plain_q8_0;
        default:
            return nullptr;
    }
}

}  // namespace

void decode_row(DType dtype, const std::byte* source, float* target, int64_t n) {
    const Decoder decode = decoder_of(dtype);
    NEMO_ASSERT(decode != nullptr && n % dtype_info(dtype).block_size == 0);
    decode(source, target, n);
}

void encode_row(DType dtype, const float* source, std::byte* target, int64_t n,
                const float* importance) {
    const Encoder plain = plain_encoder_of(dtype);
    const WeightedEncoder weighted = best_tier().weighted_encoder(dtype);
    NEMO_ASSERT((plain != nullptr || weighted != nullptr) && n % dtype_info(dtype).block_size == 0);
    if (weighted == nullptr || (plain != nullptr && importance == nullptr))
        plain(source, target, n);
    else
        weighted(source, target, n, importance);
}

float largest_magnitude(const float* values, int64_t n) {
    return best_tier().largest_magnitude(values, n);
}

}  // namespace nemo
