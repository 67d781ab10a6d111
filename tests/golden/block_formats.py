"""Q8_0 and Q4_0 as a round trip, and the int8 activation rounding that goes with them.

Encoders follow the reference rules of the formats: the code is computed with the unrounded float32
scale, the stored scale is that value rounded to fp16. All steps are float32, as an encoder does
them, so that codes agree with a C++ encoder except where the last bit decides a tie.
"""

import numpy as np

BLOCK = 32
# What a block format may hold: every matrix of a matmul and the embeddings; never norms, the
# convolution, A, D, dt, biases or the router.
MATRIX_NAMES = ("embeddings.weight", "lm_head.weight", "_proj.weight")


def is_matrix(name):
    return name.endswith(MATRIX_NAMES)


def inverse(scale):
    """1/scale in float32, 0 where the scale is 0."""
    safe = np.where(scale == 0, np.float32(1), scale)
    return np.where(scale == 0, np.float32(0), np.float32(1) / safe).astype(np.float32)


def round_half_away(v):
    return np.trunc(v.astype(np.float64) + np.copysign(0.5, v))


def as_blocks(values):
    if values.shape[-1] % BLOCK:
        raise ValueError(f"row length {values.shape[-1]} is not a multiple of {BLOCK}")
    return np.asarray(values, np.float32).reshape(*values.shape[:-1], -1, BLOCK)


def q8_0(values):
    """Quantizes and dequantizes; float32 in and out, shape kept."""
    blocks = as_blocks(values)
    scale = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    codes = round_half_away(blocks * inverse(scale))
    return (codes.astype(np.float32) * scale.astype(np.float16).astype(np.float32)).reshape(
        values.shape)


def q4_0(values):
    blocks = as_blocks(values)
    largest = np.argmax(np.abs(blocks), axis=-1)[..., None]
    scale = np.take_along_axis(blocks, largest, axis=-1) / np.float32(-8)
    codes = np.minimum(15, np.trunc(blocks * inverse(scale) + np.float32(8.5)))
    return ((codes - 8).astype(np.float32) * scale.astype(np.float16).astype(np.float32)).reshape(
        values.shape)


def int8_activations(x):
    """Activations as an int8 engine sees them: one fp16 scale per 32 values."""
    return q8_0(x).astype(np.float64)


def quantized(weights, encode):
    return {name: encode(value) if is_matrix(name) else value for name, value in weights.items()}
