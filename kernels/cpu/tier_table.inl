// A tier's table of functions. Q8_0 and Q4_0 are its classes for dot_int8.
template <class Q8_0, class Q4_0>
constexpr TierOps tier_table() {
    return {
        .dot_f32 = dot_float<F32Row>,
        .dot_f16 = dot_float<F16Row>,
        .dot_bf16 = dot_float<Bf16Row>,
        .dot_q8_0 = dot_int8<Q8_0>,
        .dot_q4_0 = dot_int8<Q4_0>,
        .quantize = quantize,
        .conv_silu = conv_silu,
        .scan = scan,
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .gated_norm = gated_norm,
        .softmax = softmax,
        .weighted_sum = weighted_sum,
    };
}
