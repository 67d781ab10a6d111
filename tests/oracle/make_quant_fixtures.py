"""Writes tests/data/quant/blocks.bin: random blocks of every format with the values that the PyPI
package `gguf` decodes from them, and encodings of random values. Independent of nemo's own code.

    pip install numpy gguf==0.19.0
    python tests/oracle/make_quant_fixtures.py

Record: u32 kind (0 decode, 1 encode), u32 GGUF type id, u32 n elements, u32 n_bytes, the bytes, n
floats. All little-endian.
"""

import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

TARGET = pathlib.Path(__file__).parent.parent / "data" / "quant" / "blocks.bin"
N_DECODED = 1024
N_ENCODED = 2048
# Where the fp16 scales of a block lie; random bits there would often be NaN or infinity.
F16_FIELDS = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
    Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [], Type.NVFP4: [],
    Type.F16: [0],
}


def random_blocks(rng, dtype):
    block, n_bytes = GGML_QUANT_SIZES[dtype]
    blocks = rng.integers(0, 256, (N_DECODED // block, n_bytes), dtype=np.uint8)
    for offset in F16_FIELDS[dtype]:
        halves = rng.integers(0, 0x7C00, len(blocks), dtype=np.uint16)
        halves |= rng.integers(0, 2, len(blocks), dtype=np.uint16) << np.uint16(15)
        blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(-1, 2)
    if dtype == Type.MXFP4:
        blocks[:, 0] = np.minimum(blocks[:, 0], 0xFA)  # larger ones overflow fp32
        blocks[:2, 0] = [0, 1]
    if dtype == Type.NVFP4:
        blocks[:, :4] &= 0x7F
        blocks[0, :4] = [0, 1, 0x7E, 0x7F]
    return blocks.reshape(-1)


def random_values(rng, dtype):
    values = rng.standard_normal(N_ENCODED).astype(np.float32)
    values *= np.repeat(np.exp(rng.uniform(-12, 6, N_ENCODED // 32)), 32).astype(np.float32)
    values[32:64] = 0.0
    values[64:96] = rng.integers(-254, 255, 32) / np.float32(2)  # ties of Q8_0 when amax is 127
    values[64] = 127.0
    values[96:128] = np.tile(np.array([-8, 8], np.float32), 16)  # which sign is the extreme
    if dtype == Type.F16:
        values[128:160] = np.ldexp(rng.uniform(-4, 4, 32), -24).astype(np.float32)
        values[160:164] = [65504.0, 65519.9, -65504.0, 2.0 ** -25]
    return values


def record(kind, dtype, data, values):
    data = np.ascontiguousarray(data).view(np.uint8).tobytes()
    values = values.astype("<f4")
    return struct.pack("<4I", kind, dtype.value, values.size, len(data)) + data + values.tobytes()


def main():
    rng = np.random.default_rng(2026)
    out = b""
    for dtype in F16_FIELDS:
        data = random_blocks(rng, dtype)
        if dtype == Type.F16:
            values = data.view(np.float16).astype(np.float32)
        else:
            values = dequantize(data, dtype)
        out += record(0, dtype, data, values)
    for dtype in [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0]:
        values = random_values(rng, dtype)
        data = values.astype(np.float16) if dtype == Type.F16 else quantize(values, dtype)
        out += record(1, dtype, data, values)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(out)
    print(f"{TARGET}: {len(out)} bytes")


if __name__ == "__main__":
    main()
