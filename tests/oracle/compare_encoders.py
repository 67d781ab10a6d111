#!/usr/bin/env python3
"""Errors of two quantised files of the same model, tensor by tensor.

    compare_encoders.py MODEL.f32.gguf OURS.gguf THEIRS.gguf [IMATRIX.gguf]

Needs the PyPI packages gguf and numpy. Make OURS with nemo-convert and THEIRS with llama-quantize from
the same MODEL; tensors whose types differ are left out. Prints, per tensor, the RMSE of OURS relative
to that of THEIRS and, where IMATRIX has the tensor (NAME.in_sum2), the same ratio of RMSE weighted by
it; then the worst of each.
"""
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


def tensors(path):
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def scaled(values, name, factors):
    """NVFP4 has a factor per matrix in a tensor of its own."""
    factor = factors.get(name.removesuffix(".weight") + ".scale")
    if factor is None:
        return values
    return values * np.repeat(factor.data, len(values) // len(factor.data))[:, None]


def squared_error(tensor, exact, factors):
    values = dequantize(tensor.data, tensor.tensor_type).reshape(exact.shape).astype(np.float64)
    return (scaled(values, tensor.name, factors) - exact) ** 2


def ratios_of(exact_path, our_path, their_path, imatrix_path=None):
    """(name, type, [RMSE ratio, weighted RMSE ratio if the importance matrix has the tensor])."""
    exact, ours, theirs = tensors(exact_path), tensors(our_path), tensors(their_path)
    imatrix = tensors(imatrix_path) if imatrix_path else {}
    for name, tensor in ours.items():
        if name not in theirs or tensor.tensor_type != theirs[name].tensor_type or tensor.tensor_type.name == "F32":
            continue
        values = dequantize(exact[name].data, exact[name].tensor_type)
        values = values.reshape(-1, values.shape[-1]).astype(np.float64)
        our_error = squared_error(tensor, values, ours)
        their_error = squared_error(theirs[name], values, theirs)
        ratios = [np.sqrt(our_error.sum() / their_error.sum())]
        if name + ".in_sum2" in imatrix:
            weights = imatrix[name + ".in_sum2"].data.reshape(-1, values.shape[-1]).astype(np.float64)
            weights = np.repeat(weights, len(values) // len(weights), axis=0)
            ratios.append(np.sqrt((our_error * weights).sum() / (their_error * weights).sum()))
        yield name, tensor.tensor_type.name, ratios


def main(*paths):
    worst = [0.0, 0.0]
    for name, dtype, ratios in ratios_of(*paths):
        worst = [max(pair) for pair in zip(worst, ratios + [0.0])]
        print(f"{name:36} {dtype:7} " + "  ".join(f"{r:.4f}" for r in ratios))
    print(f"worst: RMSE {worst[0]:.4f}, weighted {worst[1]:.4f}")
    return 0 if max(worst) <= 1.0 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
