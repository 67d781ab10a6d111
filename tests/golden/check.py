"""Checks a golden model against a second formulation and against its own files.

    python3 check.py models/NAME...

- The chunked matrix form of the scan (per chunk: decayed C.B products, carry-in, carry-out), for
  several chunk sizes, gives the logits and states of the sequential recurrence to 1e-10.
- Any split of the tokens into calls gives the same result as one call.
- golden.safetensors is what the reference computes now.
"""

import os
import sys

import numpy as np

import reference

TOLERANCE = 1e-10
SCAN_CHUNKS = (1, 7, 64, 200)
CALL_LENGTHS = (1, 2, 3, 5, 64, 65)


def chunked_scan(n_chunk):
    """The state-space dual form, one chunk of up to n_chunk tokens at a time; arguments and result
    as reference.sequential_scan. All exponents are <= 0."""

    def scan(x, B, C, dt, A, D, S):
        y = np.empty_like(x)
        for begin in range(0, x.shape[0], n_chunk):
            part = slice(begin, begin + n_chunk)
            cs = np.cumsum(dt[part] * A, axis=0)  # [Q,H]
            is_past = np.tril(np.ones((len(cs), len(cs)), bool))
            span = np.where(is_past[..., None], cs[:, None] - cs[None], -np.inf)  # [Q,Q,H]
            mix = np.exp(span) * np.einsum("lhn,shn->lsh", C[part], B[part])
            steps = dt[part][..., None] * x[part]  # [Q,H,P]
            y[part] = (np.einsum("lsh,shp->lhp", mix, steps)
                       + np.exp(cs)[..., None] * np.einsum("lhn,hpn->lhp", C[part], S)
                       + D[:, None] * x[part])
            carry = np.exp(cs[-1] - cs)[..., None] * steps
            S = np.exp(cs[-1])[:, None, None] * S + np.einsum("qhp,qhn->hpn", carry, B[part])
        return y, S

    return scan


def run(model, tokens, call_length):
    state = reference.State(model.config)
    logits = [model.forward(tokens[begin : begin + call_length], state)
              for begin in range(0, len(tokens), call_length)]
    return np.concatenate(logits), state


def difference(a, b):
    """The largest relative difference of logits and of every state."""
    pairs = [(a[0], b[0])]
    for field in ("conv", "ssm", "k", "v"):
        left, right = getattr(a[1], field), getattr(b[1], field)
        pairs += [(left[i], right[i]) for i in right]
    return max(np.linalg.norm(l - r) / np.linalg.norm(r) for l, r in pairs)


def check_model(directory):
    config, weights = reference.load(directory)
    stored = reference.read_safetensors(os.path.join(directory, "golden.safetensors"))
    tokens = stored["tokens"]
    model = reference.Model(config, weights)
    expected = run(model, tokens, len(tokens))

    split = max(difference(run(model, tokens, n), expected) for n in CALL_LENGTHS)
    chunked = 0.0
    for n_chunk in SCAN_CHUNKS:
        other = reference.Model(config, weights, scan=chunked_scan(n_chunk))
        chunked = max(chunked, difference(run(other, tokens, 50), expected))
    file = np.abs(stored["logits"] - expected[0]).max()
    if split > TOLERANCE or chunked > TOLERANCE or file > 1e-5:
        sys.exit(f"{directory}: split {split:.1e}, chunked scan {chunked:.1e}, file {file:.1e}")
    return f"ok: splits {split:.1e}, chunked scan {chunked:.1e}, golden file {file:.1e}"


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, check_model(path))
