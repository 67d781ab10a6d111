#include "quant/codec.h"

#include "core/error.h"
#include "quant/formats.h"

namespace nemo {

namespace {

using Decoder = void (*)(const std::byte* source, float* target, int64_t n);
using Encoder = void (*)(const float* source, std::byte* target, int64_t n);

Decoder decoder_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return decode_f32;
        case DType::f16:
            return decode_f16;
        case DType::bf16:
            return decode_bf16;
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

Encoder encoder_of(DType dtype) {
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
            return encode_q8_0;
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

bool can_encode(DType dtype) {
    return encoder_of(dtype) != nullptr;
}

void encode_row(DType dtype, const float* source, std::byte* target, int64_t n) {
    const Encoder encode = encoder_of(dtype);
    NEMO_ASSERT(encode != nullptr && n % dtype_info(dtype).block_size == 0);
    encode(source, target, n);
}

}  // namespace nemo
