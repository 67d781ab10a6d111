// A tier's table of functions.
template <int... kIndex>
constexpr TierOps tier_table(Formats<kIndex...>) {
    return {
        .dot_f32 = dot_float<F32Row>,
        .dot_f16 = dot_float<F16Row>,
        .dot_bf16 = dot_float<Bf16Row>,
        .widen_f32 = widen_panel<F32Row>,
        .widen_f16 = widen_panel<F16Row>,
        .widen_bf16 = widen_panel<Bf16Row>,
        .multiply_float_tile = multiply_float_tile,
        .sum_float_tile = sum_float_tile,
        .dot_strips = {dot_strips<static_cast<QuantFormat>(kIndex)>...},
        .expand_panel = {expand_panel<static_cast<QuantFormat>(kIndex)>...},
        .multiply_tile = {multiply_tile<static_cast<QuantFormat>(kIndex)>...},
        .quantize = quantize_row,
        .weave = weave_codes,
        .store_tile = store_tile,
        .conv_silu = conv_silu,
        .scan_steps = scan_steps,
        .scan = scan,
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .gated_norm = gated_norm,
        .attention = attention_ops(),
    };
}
