"""Compares two files of raw float32 logits [n_tokens, n_vocab] position by position.

    python3 compare_logits.py A.f32 B.f32 N_VOCAB

Prints how many positions have the same most probable token, the largest and mean KL divergence
KL(B || A), and the relative error of the logits. `nemo-cli eval` writes such files; README.md says
how to get one from llama.cpp. Needs NumPy.
"""

import sys

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    n_vocab = int(sys.argv[3])
    a, b = (np.fromfile(path, "<f4").reshape(-1, n_vocab).astype(float) for path in sys.argv[1:3])
    if a.shape != b.shape:
        sys.exit(f"{a.shape[0]} positions against {b.shape[0]}")
    log_a, log_b = log_softmax(a), log_softmax(b)
    kl = (np.exp(log_b) * (log_b - log_a)).sum(axis=1)
    error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    differing = np.flatnonzero(a.argmax(axis=1) != b.argmax(axis=1))
    print(f"{len(a)} positions, another most probable token at {len(differing)}: {differing.tolist()[:10]}")
    print(f"KL divergence: largest {kl.max():.2e}, mean {kl.mean():.2e}")
    print(f"relative error: largest {error.max():.2e}, mean {error.mean():.2e}")


main()
