"""Float64 reference of nemotron_h and nemotron, written from the equations alone.

It is the judge of every engine result, so it favours being obviously right over being fast: the
state-space recurrence is sequential, one token after another, with no chunking and no fused step,
and everything after the weights is computed in float64. It reads an HF-layout checkpoint directory
with its own small safetensors reader and depends on NumPy only.

Notation: T tokens, V vocabulary, h hidden, H mamba heads, P mamba head_dim, N state size,
G mamba groups, K conv kernel, di = H*P, cd = di + 2*G*N, hd attention head_dim. A block of a plain
Transformer (nemotron) is two layers here, attention and MLP, each with its norm and residual.

Invariant: Model.forward may be called with any split of a token sequence; the State carries
exactly what the next call needs and the results do not depend on where the splits are.
"""

import json
import os
import struct

import numpy as np

# The three vocabularies that checkpoints use for block kinds, beside the one-character pattern.
KIND_OF_BLOCK = {
    "mamba": "M", "linear_attention": "M",
    "attention": "*", "full_attention": "*",
    "mlp": "-", "moe": "E",
}
SOFTPLUS_LINEAR_ABOVE = 20.0
TOPK_NORM_EPS = 1e-20


# ---------------------------------------------------------------- safetensors


def bf16_to_f32(u16):
    """Expands bfloat16 bits (the upper half of a float32) exactly."""
    return (u16.astype(np.uint32) << 16).view(np.float32)


def e4m3_to_f32(u8):
    """Expands FP8 E4M3 (bias 7, subnormals m*2^-9, no infinities, 0x7F and 0xFF are NaN)."""
    u8 = u8.astype(np.int32)
    exponent, mantissa = (u8 >> 3) & 15, u8 & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9,
                         (8 + mantissa) * 2.0 ** (exponent - 10.0))
    magnitude = np.where((u8 & 0x7F) == 0x7F, np.nan, magnitude)
    return np.where(u8 & 0x80, -magnitude, magnitude).astype(np.float32)


def read_safetensors(path):
    """Returns {name: array}; BF16 and FP8 are expanded to float32, other types stay as stored."""
    with open(path, "rb") as file:
        n_header, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(n_header))
        data = file.read()
    readers = {
        "F32": lambda raw: np.frombuffer(raw, "<f4"),
        "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
        "I32": lambda raw: np.frombuffer(raw, "<i4"),
        "BF16": lambda raw: bf16_to_f32(np.frombuffer(raw, "<u2")),
        "F8_E4M3": lambda raw: e4m3_to_f32(np.frombuffer(raw, "u1")),
    }
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        tensors[name] = readers[info["dtype"]](data[begin:end]).reshape(info["shape"])
    return tensors


def read_checkpoint_tensors(directory):
    """Reads model.safetensors or every shard of the index, and applies FP8 weight scales.

    The result is float32, the precision in which a converter sees the weights.
    """
    index = os.path.join(directory, "model.safetensors.index.json")
    files = ["model.safetensors"]
    if os.path.exists(index):
        with open(index) as file:
            files = sorted(set(json.load(file)["weight_map"].values()))
    tensors = {}
    for name in files:
        tensors.update(read_safetensors(os.path.join(directory, name)))
    for name in [n for n in tensors if n.endswith(".weight_scale")]:
        weight = name[: -len("_scale")]
        tensors[weight] = tensors[weight] * tensors[name].reshape(()).astype(np.float32)
    return {n: t for n, t in tensors.items() if not n.endswith("_scale")}


# ---------------------------------------------------------------- configuration


class Config:
    """The parts of config.json that matter to the maths, under one spelling each.

    layers[i] is the configuration that layer i follows: self, unless block_configs say otherwise.
    """

    def __init__(self, raw):
        def first(*names, default=None):
            for name in names:
                if raw.get(name) is not None:
                    return raw[name]
            if default is None:
                raise KeyError(f"config.json has none of {names}")
            return default

        per_block = raw.get("block_configs")
        self.is_nemotron = raw.get("model_type") == "nemotron"
        if self.is_nemotron:
            self.kinds = ["*", "-"] * first("num_hidden_layers")
            self.layers = [self] * len(self.kinds)
        elif per_block:
            self.kinds = [KIND_OF_BLOCK[block["block_type"]] for block in per_block]
            # What holds for one layer: its own fields, and the model's where it has none.
            shared = {key: value for key, value in raw.items()
                      if key not in ("block_configs", "layers_block_type")}
            self.layers = [Config({**shared, **block, "layer_types": [block["block_type"]]})
                           for block in per_block]
        else:
            blocks = first("hybrid_override_pattern", "layers_block_type", "layer_types")
            self.kinds = (list(blocks) if isinstance(blocks, str)
                          else [KIND_OF_BLOCK[b] for b in blocks])
            self.layers = [self] * len(self.kinds)
        self.h = first("hidden_size")
        self.V = first("vocab_size")
        self.n_heads = first("num_attention_heads", default=1)
        self.n_kv_heads = first("num_key_value_heads", default=self.n_heads)
        self.hd = first("head_dim", "attention_head_dim", default=128)
        share = first("partial_rotary_factor", default=0.5) if self.is_nemotron else 0
        self.n_rotary = int(self.hd * share)
        self.rope_theta = first("rope_theta", default=10000.0)
        self.rope_factor = (raw.get("rope_scaling") or {}).get("factor", 1.0)
        self.H = first("mamba_num_heads", default=0)
        self.P = first("mamba_head_dim", default=0)
        self.N = first("ssm_state_size", "mamba_d_state", default=0)
        self.G = first("n_groups", "mamba_n_groups", default=0)
        self.K = first("conv_kernel", "mamba_d_conv", default=0)
        self.eps = first("layer_norm_epsilon", "rms_norm_eps", "norm_eps")
        self.dt_limit = first("time_step_limit", default=[0.0, float("inf")])
        self.top_k = first("num_experts_per_tok", default=0)
        self.n_group = first("n_group", default=1)
        self.topk_group = first("topk_group", default=1)
        self.norm_topk = first("norm_topk_prob", default=True)
        self.routed_scale = first("routed_scaling_factor", default=1.0)
        self.tied = raw.get("tie_word_embeddings", False)
        self.di = self.H * self.P
        self.cd = self.di + 2 * self.G * self.N


# ---------------------------------------------------------------- mathematics


def rms_norm(x, weight, eps):
    return weight * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def layer_norm_1p(x, weight, bias, eps):
    centered = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centered * centered, axis=-1, keepdims=True)
    return (1.0 + weight) * centered / np.sqrt(variance + eps) + bias


def rotate(x, n_past, n_rotary, theta, factor):
    """x [T,heads,hd] of the tokens after n_past: the pairs (i, i + n_rotary/2) of every head turn."""
    positions = (n_past + np.arange(x.shape[0])) / factor
    half = n_rotary // 2
    angles = positions[:, None] * theta ** (-2.0 * np.arange(half) / n_rotary)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b, rest = x[..., :half], x[..., half:n_rotary], x[..., n_rotary:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def sigmoid(v):
    return 1.0 / (1.0 + np.exp(-v))


def silu(v):
    return v * sigmoid(v)


def softplus(v):
    return np.where(v > SOFTPLUS_LINEAR_ABOVE, v, np.log1p(np.exp(np.minimum(v, 30.0))))


def relu2(v):
    return np.maximum(v, 0.0) ** 2


def sequential_scan(x, B, C, dt, A, D, S):
    """The recurrence, one token at a time. x [T,H,P], B and C [T,H,N] (already repeated per head),
    dt [T,H], A and D [H], S [H,P,N]. Returns y [T,H,P] and the state after the last token."""
    y = np.empty_like(x)
    S = S.copy()
    for t in range(x.shape[0]):
        decay = np.exp(dt[t] * A)
        S = decay[:, None, None] * S + (dt[t][:, None] * x[t])[:, :, None] * B[t][:, None, :]
        y[t] = np.einsum("hpn,hn->hp", S, C[t]) + D[:, None] * x[t]
    return y, S


class State:
    """Everything that a sequence remembers, by layer index: conv [cd,K-1] (pre-activation inputs,
    oldest first), ssm [H,P,N], k and v [tokens so far, n_kv, hd]."""

    def __init__(self, config):
        self.conv, self.ssm, self.k, self.v = {}, {}, {}, {}
        for i, kind in enumerate(config.kinds):
            layer = config.layers[i]
            if kind == "M":
                self.conv[i] = np.zeros((layer.cd, layer.K - 1))
                self.ssm[i] = np.zeros((layer.H, layer.P, layer.N))
            elif kind == "*":
                self.k[i] = np.zeros((0, layer.n_kv_heads, layer.hd))
                self.v[i] = np.zeros((0, layer.n_kv_heads, layer.hd))

    def copy(self):
        other = object.__new__(State)
        other.__dict__ = {name: dict(value) for name, value in self.__dict__.items()}
        return other


class Model:
    """weights: {canonical name: array}, canonical = without `backbone.`/`model.`, experts stacked.

    quantize_activations: None, or a function applied to the input of every matrix product whose
    weight a block format would hold (an int8 engine); router and elementwise work are untouched.
    scan: the state-space scan, replaceable to compare another formulation.
    """

    def __init__(self, config, weights, quantize_activations=None, scan=sequential_scan):
        self.config = config
        self.w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.quantize_activations = quantize_activations
        self.scan = scan
        self.trace = None  # a dict while recording: mixer sizes, routing margins, chosen experts

    def linear(self, x, weight):
        if self.quantize_activations is not None:
            x = self.quantize_activations(x)
        return x @ weight.T

    def forward(self, tokens, state):
        """Returns logits [T,V] and advances state by T tokens."""
        config = self.config
        mixers = {"M": self.mamba, "*": self.attention, "-": self.mlp, "E": self.moe}
        x = self.w["embeddings.weight"][np.asarray(tokens)]
        for i, kind in enumerate(config.kinds):
            u = self.norm(x, f"layers.{i}.norm")
            out = mixers[kind](u, i, state)
            if self.trace is not None:
                self.trace[f"size.{i}"] = (np.sqrt(np.mean(out**2)), np.sqrt(np.mean(x**2)))
            x = x + out
        head = self.w["embeddings.weight"] if config.tied else self.w["lm_head.weight"]
        return self.linear(self.norm(x, "norm_f"), head)

    def norm(self, x, name):
        weight, eps = self.w[f"{name}.weight"], self.config.eps
        if self.config.is_nemotron:
            return layer_norm_1p(x, weight, self.w[f"{name}.bias"], eps)
        return rms_norm(x, weight, eps)

    def mixer_weight(self, i, name):
        return self.w[f"layers.{i}.mixer.{name}"]

    def mamba(self, u, i, state):
        c = self.config.layers[i]
        n_tokens = u.shape[0]
        projected = self.linear(u, self.mixer_weight(i, "in_proj.weight"))
        z, xbc, dt_raw = np.split(projected, [c.di, c.di + c.cd], axis=1)

        taps = self.mixer_weight(i, "conv1d.weight").reshape(c.cd, c.K)
        inputs = np.concatenate([state.conv[i].T, xbc])  # [K-1+T, cd]
        conv = self.mixer_weight(i, "conv1d.bias") + sum(
            taps[:, k] * inputs[k : k + n_tokens] for k in range(c.K))
        state.conv[i] = inputs[inputs.shape[0] - (c.K - 1) :].T.copy()
        x, B, C = np.split(silu(conv), [c.di, c.di + c.G * c.N], axis=1)

        x = x.reshape(n_tokens, c.H, c.P)
        B = np.repeat(B.reshape(n_tokens, c.G, c.N), c.H // c.G, axis=1)  # head h: group h/(H/G)
        C = np.repeat(C.reshape(n_tokens, c.G, c.N), c.H // c.G, axis=1)
        dt = np.clip(softplus(dt_raw + self.mixer_weight(i, "dt_bias")), *c.dt_limit)
        A = -np.exp(self.mixer_weight(i, "A_log"))
        y, state.ssm[i] = self.scan(x, B, C, dt, A, self.mixer_weight(i, "D"), state.ssm[i])

        gated = (y.reshape(n_tokens, c.di) * silu(z)).reshape(n_tokens, c.G, c.di // c.G)
        weight = self.mixer_weight(i, "norm.weight").reshape(c.G, c.di // c.G)
        normed = rms_norm(gated, weight, c.eps).reshape(n_tokens, c.di)
        return self.linear(normed, self.mixer_weight(i, "out_proj.weight"))

    def attention(self, u, i, state):
        c = self.config.layers[i]
        n_tokens = u.shape[0]
        q, k, v = (self.linear(u, self.mixer_weight(i, f"{name}_proj.weight"))
                   .reshape(n_tokens, -1, c.hd) for name in "qkv")
        n_past = state.k[i].shape[0]
        if c.n_rotary:
            q, k = (rotate(v, n_past, c.n_rotary, c.rope_theta, c.rope_factor) for v in (q, k))
        state.k[i] = np.concatenate([state.k[i], k])
        state.v[i] = np.concatenate([state.v[i], v])
        keys = np.repeat(state.k[i], c.n_heads // c.n_kv_heads, axis=1)
        values = np.repeat(state.v[i], c.n_heads // c.n_kv_heads, axis=1)
        scores = np.einsum("thd,shd->hts", q, keys) / np.sqrt(c.hd)
        is_future = np.arange(keys.shape[0])[None, :] > n_past + np.arange(n_tokens)[:, None]
        scores = np.where(is_future[None], -np.inf, scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        heads = np.einsum("hts,shd->thd", scores, values).reshape(n_tokens, c.n_heads * c.hd)
        return self.linear(heads, self.mixer_weight(i, "o_proj.weight"))

    def mlp(self, u, i, _state):
        return self.feed_forward(u, self.mixer_weight(i, "up_proj.weight"),
                                 self.mixer_weight(i, "down_proj.weight"))

    def feed_forward(self, u, up, down):
        return self.linear(relu2(self.linear(u, up)), down)

    def route(self, u, i):
        """u [h] -> (expert ids, weights) for one token, best first."""
        c = self.config.layers[i]
        scores = sigmoid(self.mixer_weight(i, "gate.weight") @ u)
        choice = scores + self.mixer_weight(i, "gate.e_score_correction_bias")
        margins = []
        if c.n_group > 1:
            grouped = choice.reshape(c.n_group, -1)
            group_scores = np.sort(grouped, axis=1)[:, -2:].sum(axis=1)
            best = np.argsort(-group_scores, kind="stable")
            margins.append(group_scores[best[c.topk_group - 1]] - group_scores[best[c.topk_group]])
            kept = np.isin(np.arange(c.n_group), best[: c.topk_group])
            choice = np.where(kept[:, None], grouped, -np.inf).reshape(-1)
        order = np.argsort(-choice, kind="stable")
        margins.append(choice[order[c.top_k - 1]] - choice[order[c.top_k]])
        chosen = order[: c.top_k]
        weights = scores[chosen]
        if c.norm_topk:
            weights = weights / (weights.sum() + TOPK_NORM_EPS)
        if self.trace is not None:
            self.trace.setdefault("margins", []).append(min(margins))
            self.trace.setdefault("experts", []).append((i, tuple(chosen)))
        return chosen, weights * c.routed_scale

    def moe(self, u, i, _state):
        latent = f"layers.{i}.mixer.fc1_latent_proj.weight" in self.w
        inner = self.linear(u, self.mixer_weight(i, "fc1_latent_proj.weight")) if latent else u
        up = self.mixer_weight(i, "experts.up_proj.weight")
        down = self.mixer_weight(i, "experts.down_proj.weight")
        routed = np.zeros_like(inner)
        for t in range(u.shape[0]):
            for expert, weight in zip(*self.route(u[t], i)):
                routed[t] += weight * self.feed_forward(inner[t], up[expert], down[expert])
        if latent:
            routed = self.linear(routed, self.mixer_weight(i, "fc2_latent_proj.weight"))
        return routed + self.feed_forward(
            u, self.mixer_weight(i, "shared_experts.up_proj.weight"),
            self.mixer_weight(i, "shared_experts.down_proj.weight"))


# ---------------------------------------------------------------- loading


def canonical_weights(tensors):
    """Drops prefixes and the `mtp.` head, and stacks per-expert tensors to [n_experts, out, in]."""
    weights, per_expert = {}, {}
    for name, value in tensors.items():
        if name.startswith("mtp."):
            continue
        for prefix in ("backbone.", "model."):
            name = name.removeprefix(prefix)
        head, found, tail = name.partition(".experts.")
        if not found:
            weights[name] = value
        elif tail.endswith(".weight"):
            expert, projection = tail.removesuffix(".weight").split(".")
            per_expert.setdefault((head, projection), {})[int(expert)] = value
        else:
            weights[f"{name}.weight"] = value
    for (head, projection), experts in per_expert.items():
        stacked = np.stack([experts[e] for e in range(len(experts))])
        weights[f"{head}.experts.{projection}.weight"] = stacked
    return weights


# What canonical names call the parts of a nemotron block: (first or second layer, name).
NEMOTRON_PARTS = {
    "input_layernorm": (0, "norm"), "post_attention_layernorm": (1, "norm"),
    **{f"self_attn.{name}_proj": (0, f"mixer.{name}_proj") for name in "qkvo"},
    **{f"mlp.{name}_proj": (1, f"mixer.{name}_proj") for name in ("up", "down")},
}
NEMOTRON_OUTER = {"model.embed_tokens": "embeddings", "model.norm": "norm_f", "lm_head": "lm_head"}


def canonical_nemotron_weights(tensors):
    weights = {}
    for name, value in tensors.items():
        stem, _, suffix = name.rpartition(".")
        if stem in NEMOTRON_OUTER:
            weights[f"{NEMOTRON_OUTER[stem]}.{suffix}"] = value
            continue
        block, _, part = stem.removeprefix("model.layers.").partition(".")
        second, canonical = NEMOTRON_PARTS[part]
        weights[f"layers.{2 * int(block) + second}.{canonical}.{suffix}"] = value
    return weights


def load(directory):
    """Returns (Config, canonical float32 weights) of an HF-layout checkpoint."""
    with open(os.path.join(directory, "config.json")) as file:
        config = Config(json.load(file))
    canonical = canonical_nemotron_weights if config.is_nemotron else canonical_weights
    return config, canonical(read_checkpoint_tensors(directory))
