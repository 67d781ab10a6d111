"""Asks the saved checkpoint questions and counts the answers that hold an expected text.

Nothing is shared with the training code: a NumPy forward pass, one token at a time, greedy, from
the bf16 file; once with the weights as they are and once rounded to each quantized format.
Usage: check.py CHECKPOINT_DIR QUESTIONS.tsv... (lines: question TAB expected text)
"""
import json
import sys
from pathlib import Path

import jinja2
import numpy as np
from tokenizers import Tokenizer

MAX_NEW_TOKENS = 64
BLOCK = 32


def load(path):
    """{name: float32 array} of a bf16 safetensors file."""
    raw = path.read_bytes()
    n_header = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:8 + n_header]), raw[8 + n_header:]
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        assert info["dtype"] == "BF16", name
        begin, end = info["data_offsets"]
        bits = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(info["shape"])
    return tensors


def q8_0(w):
    blocks = w.reshape(-1, BLOCK)
    d = np.abs(blocks).max(1, keepdims=True) / 127
    q = np.round(blocks * np.divide(1, d, out=np.zeros_like(d), where=d != 0))
    return (q * d.astype(np.float16)).astype(np.float32).reshape(w.shape)


def q4_0(w):
    blocks = w.reshape(-1, BLOCK)
    d = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1) / -8
    q = np.trunc(blocks * np.divide(1, d, out=np.zeros_like(d), where=d != 0) + 8.5).clip(0, 15) - 8
    return (q * d.astype(np.float16)).astype(np.float32).reshape(w.shape)


def silu(x):
    return x / (1 + np.exp(-x))


class Model:
    def __init__(self, config, tensors):
        self.c, self.w = config, tensors

    def norm(self, x, name, n_groups=1):
        x = x.reshape(n_groups, -1)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["layer_norm_epsilon"])
        return x.reshape(-1) * self.w[name]

    def mamba(self, u, p, cache):
        c, w = self.c, self.w
        n_heads, head_dim, n_groups, n_state = (
            c[k] for k in ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size"))
        inner, bc = n_heads * head_dim, n_groups * n_state
        z, xbc, dt = np.split(w[p + "in_proj.weight"] @ u, [inner, 2 * inner + 2 * bc])
        window = cache.setdefault("conv", np.zeros((c["conv_kernel"], len(xbc)), np.float32))
        window[:-1] = window[1:]
        window[-1] = xbc
        conv = silu((window.T * w[p + "conv1d.weight"][:, 0]).sum(1) + w[p + "conv1d.bias"])
        x, b, cc = np.split(conv, [inner, inner + bc])
        x = x.reshape(n_heads, head_dim)
        dt = np.logaddexp(0, dt + w[p + "dt_bias"])
        decay = np.exp(-np.exp(w[p + "A_log"]) * dt)
        state = cache.setdefault("ssm", np.zeros((n_heads, head_dim, n_state), np.float32))
        y = np.empty_like(x)
        for h in range(n_heads):
            g = h // (n_heads // n_groups)
            state[h] = decay[h] * state[h] + dt[h] * np.outer(x[h], b[g * n_state:(g + 1) * n_state])
            y[h] = state[h] @ cc[g * n_state:(g + 1) * n_state] + w[p + "D"][h] * x[h]
        return w[p + "out_proj.weight"] @ self.norm(y.reshape(-1) * silu(z), p + "norm.weight", n_groups)

    def attention(self, u, p, cache):
        c, w = self.c, self.w
        n_heads, n_kv, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        q, k, v = ((w[f"{p}{n}_proj.weight"] @ u).reshape(-1, dim) for n in "qkv")
        cache.setdefault("k", []).append(k)
        cache.setdefault("v", []).append(v)
        keys, values = np.stack(cache["k"]), np.stack(cache["v"])
        out = []
        for h in range(n_heads):
            kv = h // (n_heads // n_kv)
            scores = keys[:, kv] @ q[h] / np.sqrt(dim)
            probs = np.exp(scores - scores.max())
            out.append(probs @ values[:, kv] / probs.sum())
        return w[p + "o_proj.weight"] @ np.concatenate(out).astype(np.float32)

    def mlp(self, u, p, cache):
        return self.w[p + "down_proj.weight"] @ np.maximum(self.w[p + "up_proj.weight"] @ u, 0) ** 2

    def step(self, token, caches):
        x = self.w["backbone.embeddings.weight"][token]
        mixers = {"M": self.mamba, "*": self.attention, "-": self.mlp}
        for i, kind in enumerate(self.c["hybrid_override_pattern"]):
            p = f"backbone.layers.{i}."
            x = x + mixers[kind](self.norm(x, p + "norm.weight"), p + "mixer.", caches[i])
        return self.w["lm_head.weight"] @ self.norm(x, "backbone.norm_f.weight")


class Chat:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
            (folder / "chat_template.jinja").read_text())
        self.tensors = load(folder / "model.safetensors")

    def model(self, rounding):
        """Rounds what a converter quantizes: the matrices, not norms, conv or per-head values."""
        return Model(self.config, {n: rounding(w) if rounding and w.ndim == 2 else w
                                   for n, w in self.tensors.items()})

    def ask(self, model, messages):
        prompt = self.template.render(messages=messages, add_generation_prompt=True)
        caches = [{} for _ in self.config["hybrid_override_pattern"]]
        for token in self.tokenizer.encode(prompt).ids:
            logits = model.step(token, caches)
        answer = []
        while len(answer) < MAX_NEW_TOKENS and (token := int(logits.argmax())) not in self.stops:
            answer.append(token)
            logits = model.step(token, caches)
        return self.tokenizer.decode(answer)


def main(folder, question_files):
    chat = Chat(folder)
    for file in question_files:
        cases = [line.split("\t") for line in file.read_text().splitlines() if line]
        for name, rounding in (("bf16", None), ("Q8_0", q8_0), ("Q4_0", q4_0)):
            model, passed = chat.model(rounding), 0
            for question, expected in cases:
                for end in ("", "\n"):  # a piped question may keep its newline
                    answer = chat.ask(model, [{"role": "user", "content": question + end}])
                    passed += expected in answer
                    if expected not in answer:
                        print(f"{name}: {question + end!r} -> {answer!r}, expected {expected!r}")
            print(f"{file.name} {name}: {passed} of {2 * len(cases)} passed", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
