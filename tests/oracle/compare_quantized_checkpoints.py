#!/usr/bin/env python3
"""Converts a small checkpoint in every form that quantizers store, and compares the weights.

    compare_quantized_checkpoints.py NEMO_CONVERT WORK_DIR [CONVERT_HF_TO_GGUF]

Needs the PyPI packages torch, compressed-tensors and gguf (of llama.cpp's tree for NVFP4). The
compressed-tensors forms are made and read back by that library, ModelOpt's are the same bytes under
its names. An F32 file must hold what the library decodes (NVFP4: but for four roundings, because it
divides by the factor first), an NVFP4 or MXFP4 file exactly what the F32 file holds. With llama.cpp's converter,
given as a command, its NVFP4 files must have the same blocks and scales.
"""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8, unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from gguf import GGUFReader
from gguf.quants import dequantize as dequantize_gguf
from safetensors.torch import save_file

H, EXPERTS, VOCAB = 128, 4, 264
HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "vocab_size": VOCAB,
    "hidden_size": H, "hybrid_override_pattern": "M*E", "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "mamba_num_heads": 8,
    "mamba_head_dim": 64, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4,
    "mlp_hidden_act": "relu2", "norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "intermediate_size": 64,
    "max_position_embeddings": 4096, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "moe_intermediate_size": 64, "moe_shared_expert_intermediate_size": 192,
    "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
FP4 = {"num_bits": 4, "type": "float", "symmetric": True, "dynamic": False}
ARGS = {
    "fp8-tensor": dict(FP8, strategy="tensor"),
    "fp8-channel": dict(FP8, strategy="channel"),
    "fp8-block": dict(FP8, strategy="block", block_structure=[48, 40]),
    "fp8-group": dict(FP8, strategy="group", group_size=64),
    "mxfp8": dict(FP8, strategy="group", group_size=32, scale_dtype="torch.uint8"),
    "nvfp4": dict(FP4, strategy="tensor_group", group_size=16, scale_dtype="torch.float8_e4m3fn"),
    "mxfp4": dict(FP4, strategy="group", group_size=32, scale_dtype="torch.uint8"),
}
FORMATS = {"nvfp4": "nvfp4-pack-quantized", "mxfp4": "mxfp4-pack-quantized",
           "mxfp8": "mxfp8-quantized"}


def weights():
    """{name: (tensor, whether quantizers touch it)}"""
    random = torch.Generator().manual_seed(1)
    def new(*shape, size=0.02):
        return torch.randn(*shape, generator=random) * size
    di, cd = 8 * 64, 8 * 64 + 2 * 2 * 16
    result = {"backbone.embeddings.weight": (new(VOCAB, H), False), "lm_head.weight": (new(VOCAB, H), True),
              "backbone.norm_f.weight": (new(H) + 1, False)}
    for layer in range(3):
        result[f"backbone.layers.{layer}.norm.weight"] = (new(H) + 1, False)
    mamba, attention, moe = (f"backbone.layers.{i}.mixer." for i in range(3))
    for name, shape in {"conv1d.weight": (cd, 1, 4), "conv1d.bias": (cd,), "A_log": (8,), "D": (8,),
                        "dt_bias": (8,), "norm.weight": (di,)}.items():
        result[mamba + name] = (new(*shape, size=1.0), False)
    result[moe + "gate.weight"] = (new(EXPERTS, H), False)
    result[moe + "gate.e_score_correction_bias"] = (new(EXPERTS), False)
    linear = {mamba + "in_proj": (di + cd + 8, H), mamba + "out_proj": (H, di),
              attention + "q_proj": (256, H), attention + "k_proj": (128, H),
              attention + "v_proj": (128, H), attention + "o_proj": (H, 256),
              moe + "shared_experts.up_proj": (192, H), moe + "shared_experts.down_proj": (H, 192)}
    for i in range(EXPERTS):
        linear[f"{moe}experts.{i}.up_proj"] = (64, H)
        linear[f"{moe}experts.{i}.down_proj"] = (H, 64)
    for i, (name, shape) in enumerate(linear.items()):
        result[name + ".weight"] = (new(*shape, size=0.1 / (i + 1)), True)
    return result


def tiles(weight, args):
    """The largest magnitude of what shares a scale, in the shape of the scales."""
    if args.strategy == "tensor":
        return weight.abs().max().reshape(1)
    if args.strategy == "channel":
        return weight.abs().amax(1, keepdim=True)
    rows, columns = args.block_structure or (1, args.group_size)
    padded = torch.nn.functional.pad(weight, (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows))
    return padded.abs().reshape(padded.shape[0] // rows, rows, -1, columns).amax((1, 3))


def compress(weight, args):
    """({suffix: stored tensor}, the weights that it stands for)"""
    largest = tiles(weight, args)
    factor = None
    if args.strategy == "tensor_group":
        factor = generate_gparam(weight.min(), weight.max())
    scale, _ = calculate_qparams(-largest, largest, args, global_scale=factor)
    scale = scale.float()
    decode = dict(scale=scale, args=args, global_scale=factor)
    if args.strategy == "block":  # the library wants whole blocks
        scale_all = scale.repeat_interleave(48, 0)[:weight.shape[0]].repeat_interleave(40, 1)[:, :weight.shape[1]]
        codes = (weight / scale_all).clamp(-448, 448).to(torch.float8_e4m3fn)
        return {"weight": codes, "weight_scale": scale}, codes.float() * scale_all
    codes = quantize(weight, scale=scale, zero_point=torch.zeros_like(scale), args=args, global_scale=factor)
    value = dequantize(x_q=codes.float(), dtype=torch.float32, **decode)
    mx_scale = (127 + torch.log2(scale)).round().to(torch.uint8)
    if args.num_bits == 8:
        return {"weight": codes.to(torch.float8_e4m3fn),
                "weight_scale": mx_scale if args.scale_dtype == torch.uint8 else scale}, value
    packed = pack_fp4_to_uint8(codes)
    assert torch.equal(unpack_fp4_from_uint8(packed, *weight.shape, dtype=torch.float32), codes.float())
    if factor is None:
        return {"weight_packed": packed, "weight_scale": mx_scale}, value
    return {"weight_packed": packed, "weight_scale": scale.to(torch.float8_e4m3fn),
            "weight_global_scale": factor}, value


def as_modelopt(parts):
    """compressed-tensors' names to ModelOpt's."""
    names = {"weight_packed": "weight", "weight_global_scale": "weight_scale_2"}
    return {names.get(key, key): 1 / value if key == "weight_global_scale" else value
            for key, value in parts.items()}


def write_checkpoint(folder, form, modelopt):
    os.makedirs(folder, exist_ok=True)
    args = QuantizationArgs(**ARGS[form])
    stored, expected = {}, {}
    for name, (value, is_quantized) in weights().items():
        expected[name] = value
        if not is_quantized:
            stored[name] = value
            continue
        parts, expected[name] = compress(value, args)
        for suffix, part in (as_modelopt(parts) if modelopt else parts).items():
            stored[name.removesuffix("weight") + suffix] = part.contiguous()
    save_file(stored, os.path.join(folder, "model.safetensors"))
    declared = {"quant_method": "compressed-tensors", "format": FORMATS.get(form, "float-quantized"),
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": ARGS[form]}}}
    if modelopt:
        declared = {"quant_method": "modelopt", "quant_algo": form.split("-")[0].upper()}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(dict(CONFIG, quantization_config=declared), file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(HERE, "../golden/models/moe", name), folder)
    return expected


GGUF_NAMES = {"embeddings": "token_embd", "lm_head": "output", "in_proj": "ssm_in", "out_proj": "ssm_out",
              "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "shared_experts.up_proj": "ffn_up_shexp", "shared_experts.down_proj": "ffn_down_shexp",
              "experts.up_proj": "ffn_up_exps", "experts.down_proj": "ffn_down_exps"}


def under_gguf_names(expected):
    result = {}
    for name, value in expected.items():
        parts = name.removeprefix("backbone.").removesuffix(".weight").split(".")
        experts = parts[4] if "experts" in parts[3:4] else None
        local = ".".join(part for part in parts if not part.isdigit() and part not in ("layers", "mixer"))
        if local not in GGUF_NAMES:
            continue
        block = f"blk.{parts[1]}." if parts[0] == "layers" else ""
        key = f"{block}{GGUF_NAMES[local]}.weight"
        if experts is None:
            result[key] = value.numpy()
        else:
            result.setdefault(key, []).append(value.numpy())
    return {key: np.stack(value) if isinstance(value, list) else value for key, value in result.items()}


def read(path):
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def values(tensors, name):
    tensor = tensors[name]
    value = dequantize_gguf(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
    scale = tensors.get(name.replace(".weight", ".scale"))
    if scale is not None:
        value = value * scale.data.astype(np.float32).reshape(-1, *[1] * (value.ndim - 1))
    return value


def main(nemo_convert, work, converter=None):
    def convert(folder, kind):
        out = f"{folder}.{kind}.gguf"
        subprocess.run([nemo_convert, folder, out, "--type", kind, "--force"], check=True, stderr=subprocess.PIPE)
        return read(out)

    for form in ARGS:
        for modelopt in (False,) if form in ("fp8-block", "fp8-group") else (False, True):
            folder = os.path.join(work, form + ("-modelopt" if modelopt else ""))
            expected = under_gguf_names(write_checkpoint(folder, form, modelopt))
            plain = convert(folder, "F32")
            worst, n_exact = 0.0, 0
            for name, value in expected.items():
                ours = plain[name].data.reshape(value.shape)
                error = np.abs(ours - value).max() / np.abs(value).max()
                assert error <= (2.0 ** -22 if form == "nvfp4" else 0.0), (folder, name, error)
                worst, n_exact = max(worst, error), n_exact + bool(np.array_equal(ours, value))
            line = f"{os.path.basename(folder):22} {len(expected)} matrices, {n_exact} equal, worst {worst:.1e}"
            kind = {"nvfp4": "NVFP4", "mxfp4": "MXFP4"}.get(form)
            if kind:
                packed = convert(folder, kind)
                same = [name for name in expected if packed[name].tensor_type.name == kind and name != "token_embd.weight"]
                for name in same:
                    assert np.array_equal(values(packed, name), values(plain, name)), (folder, name)
                line += f"; {len(same)} kept as {kind} without loss"
            if kind == "NVFP4" and converter:
                out = folder + ".llama.gguf"
                subprocess.run([converter, folder, "--outtype", "f32", "--outfile", out],
                               check=True, capture_output=True)
                theirs = read(out)
                names = [name for name in theirs if theirs[name].tensor_type.name == "NVFP4"]
                names += [name for name in theirs if name.endswith(".scale")]
                for name in names:
                    # llama.cpp reorders the rows of a head, which changes nothing without rotation.
                    order = sorted if "attn_q" in name or "attn_k" in name else list
                    rows = [order(map(bytes, np.atleast_2d(file[name].data))) for file in (theirs, packed)]
                    assert rows[0] == rows[1], (folder, name)
                line += f"; {len(names)} tensors as llama.cpp writes them"
            print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
