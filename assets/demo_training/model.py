"""The demo network: Nemotron-H (Mamba-2 / attention / squared-ReLU MLP blocks) for training on a CPU.

Every mixer follows the published equations of the family, so a checkpoint saved from here is an
ordinary `nemotron_h` checkpoint. The Mamba-2 scan is computed in chunks (matrix form of the
recurrence); check_scan() compares it with the plain recurrence.
Shapes: B batch, T tokens, H heads, P head dim, N state size, G groups, Q chunk length.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

MAX_SCAN_CHUNK = 64  # tokens per chunk of the scan here; any length gives the same result

CONFIG = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "hybrid_override_pattern": "M-M*-M-",
    "num_hidden_layers": 7,
    "hidden_size": 256,
    "vocab_size": 4096,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "use_bias": False,
    "mamba_proj_bias": False,
    "intermediate_size": 768,
    "mlp_hidden_act": "relu2",
    "mamba_num_heads": 8,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "ssm_state_size": 64,
    "n_groups": 2,
    "conv_kernel": 4,
    "use_conv_bias": True,
    "chunk_size": 128,
    "expand": 2,
    "time_step_min": 0.001,
    "time_step_max": 0.1,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, float("inf")],
    "layer_norm_epsilon": 1e-05,
    "residual_in_fp32": False,
    "rescale_prenorm_residual": True,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
    "mamba_ssm_cache_dtype": "float32",
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 11,
    "pad_token_id": 0,
}


class RMSNorm(nn.Module):
    """Plain weight; with n_groups > 1 each group of consecutive channels is normalized alone."""

    def __init__(self, size, eps, n_groups=1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps, self.n_groups = eps, n_groups

    def forward(self, x):
        groups = x.unflatten(-1, (self.n_groups, -1))
        groups = groups * torch.rsqrt(groups.pow(2).mean(-1, keepdim=True) + self.eps)
        return groups.flatten(-2) * self.weight


def chunked_scan(x, dt, a, b, c, chunk):
    """x [B,T,H,P], dt [B,T,H], a [H], b and c [B,T,G,N] -> y [B,T,H,P]; T is a multiple of chunk."""
    n_batch, n_tokens, n_heads, head_dim = x.shape
    n_groups, n_state = b.shape[2:]
    per_group = n_heads // n_groups  # head h belongs to group h // per_group
    n_chunks = n_tokens // chunk
    xs = (x * dt[..., None]).view(n_batch, n_chunks, chunk, n_groups, per_group, head_dim)
    xs = xs.permute(0, 1, 3, 4, 2, 5)  # [B,C,G,R,Q,P]
    log_decay = (dt * a).view(n_batch, n_chunks, chunk, n_groups, per_group).permute(0, 1, 3, 4, 2)
    cum = log_decay.cumsum(-1)  # [B,C,G,R,Q]
    b = b.view(n_batch, n_chunks, chunk, n_groups, n_state).permute(0, 1, 3, 2, 4)  # [B,C,G,Q,N]
    c = c.view(n_batch, n_chunks, chunk, n_groups, n_state).permute(0, 1, 3, 2, 4)

    causal = torch.ones(chunk, chunk, dtype=torch.bool).tril()
    diff = (cum[..., :, None] - cum[..., None, :]).masked_fill(~causal, float("-inf"))
    scores = (c @ b.transpose(-1, -2))[:, :, :, None] * diff.exp()  # [B,C,G,R,Q,Q]
    y = scores @ xs

    state = None  # [B,G,R,N,P], the state at the start of the chunk
    carried = []
    for i in range(n_chunks):
        if state is not None:
            carried.append(cum[:, i, ..., None].exp() * (c[:, i, :, None] @ state))
        else:
            carried.append(torch.zeros_like(y[:, i]))
        if i + 1 < n_chunks:
            to_end = (cum[:, i, ..., -1:] - cum[:, i]).exp()[..., None]
            new = b[:, i, :, None].transpose(-1, -2) @ (xs[:, i] * to_end)
            state = new if state is None else state * cum[:, i, ..., -1].exp()[..., None, None] + new
    y = y + torch.stack(carried, 1)
    return y.permute(0, 1, 4, 2, 3, 5).reshape(n_batch, n_tokens, n_heads, head_dim)


def scan_chunks(n_tokens):
    return -(-n_tokens // MAX_SCAN_CHUNK)


def check_scan():
    """The chunked scan equals the recurrence S = exp(dt A) S + dt x B, y = S C (float64)."""
    gen = torch.Generator().manual_seed(1)
    n_heads, n_groups = 4, 2
    x, dt, b, c = (torch.randn(2, 12, *s, generator=gen, dtype=torch.float64)
                   for s in ((n_heads, 3), (n_heads,), (n_groups, 5), (n_groups, 5)))
    dt, a = F.softplus(dt), -torch.arange(1, n_heads + 1, dtype=torch.float64)
    state, steps = torch.zeros(2, n_heads, 3, 5, dtype=torch.float64), []
    for t in range(12):
        b_t, c_t = (v[:, t].repeat_interleave(n_heads // n_groups, 1) for v in (b, c))
        state = (dt[:, t] * a).exp()[..., None, None] * state \
            + (dt[:, t, :, None] * x[:, t])[..., None] * b_t[:, :, None]
        steps.append((state * c_t[:, :, None]).sum(-1))
    error = (chunked_scan(x, dt, a, b, c, 4) - torch.stack(steps, 1)).abs().max().item()
    assert error < 1e-12, f"chunked scan differs from the recurrence by {error}"


class Mamba(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.n_heads, self.head_dim = cfg["mamba_num_heads"], cfg["mamba_head_dim"]
        self.n_groups, self.n_state = cfg["n_groups"], cfg["ssm_state_size"]
        self.chunk = cfg["chunk_size"]
        self.d_inner = self.n_heads * self.head_dim
        self.d_conv = self.d_inner + 2 * self.n_groups * self.n_state
        kernel = cfg["conv_kernel"]
        self.in_proj = nn.Linear(cfg["hidden_size"], self.d_inner + self.d_conv + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(self.d_conv, self.d_conv, kernel, groups=self.d_conv, padding=kernel - 1)
        self.A_log = nn.Parameter(torch.empty(self.n_heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.n_heads))
        low, high = math.log(cfg["time_step_min"]), math.log(cfg["time_step_max"])
        dt = torch.empty(self.n_heads).uniform_(low, high).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.norm = RMSNorm(self.d_inner, cfg["layer_norm_epsilon"], self.n_groups)
        self.out_proj = nn.Linear(self.d_inner, cfg["hidden_size"], bias=False)

    def forward(self, u):
        n_batch, n_tokens, _ = u.shape
        z, xbc, dt = self.in_proj(u).split([self.d_inner, self.d_conv, self.n_heads], -1)
        taps = self.conv1d.weight[:, 0]  # [d_conv,K]; shifted sums beat Conv1d on a CPU
        kernel = taps.shape[1]
        padded = F.pad(xbc, (0, 0, kernel - 1, 0))
        conv = self.conv1d.bias
        for k in range(kernel):
            conv = conv + padded[:, k:k + n_tokens] * taps[:, k]
        x, b, c = F.silu(conv).split([self.d_inner] + [self.n_groups * self.n_state] * 2, -1)
        x = x.reshape(n_batch, n_tokens, self.n_heads, self.head_dim)
        b = b.reshape(n_batch, n_tokens, self.n_groups, self.n_state)
        c = c.reshape(n_batch, n_tokens, self.n_groups, self.n_state)
        dt = F.softplus(dt + self.dt_bias)
        y = chunked_scan(x, dt, -self.A_log.exp(), b, c, n_tokens // scan_chunks(n_tokens)) + self.D[:, None] * x
        return self.out_proj(self.norm(y.flatten(-2) * F.silu(z)))


class Attention(nn.Module):
    """Grouped-query causal attention without any position encoding."""

    def __init__(self, cfg):
        super().__init__()
        hidden, self.head_dim = cfg["hidden_size"], cfg["head_dim"]
        self.n_heads, self.n_kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.n_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.n_kv * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.n_kv * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, hidden, bias=False)

    def forward(self, u):
        q, k, v = (proj(u).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
                   for proj in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (t.repeat_interleave(self.n_heads // self.n_kv, 1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.up_proj = nn.Linear(cfg["hidden_size"], cfg["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(cfg["intermediate_size"], cfg["hidden_size"], bias=False)

    def forward(self, u):
        return self.down_proj(F.relu(self.up_proj(u)).square())


MIXERS = {"M": Mamba, "*": Attention, "-": MLP}


class Block(nn.Module):
    def __init__(self, kind, cfg):
        super().__init__()
        self.norm = RMSNorm(cfg["hidden_size"], cfg["layer_norm_epsilon"])
        self.mixer = MIXERS[kind](cfg)

    def forward(self, x):
        return x + self.mixer(self.norm(x))


class Backbone(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embeddings = nn.Embedding(cfg["vocab_size"], cfg["hidden_size"])
        self.layers = nn.ModuleList(Block(kind, cfg) for kind in cfg["hybrid_override_pattern"])
        self.norm_f = RMSNorm(cfg["hidden_size"], cfg["layer_norm_epsilon"])

    def forward(self, tokens):
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm_f(x)


class NemotronH(nn.Module):
    """Parameter names are the checkpoint's tensor names."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = Backbone(cfg)
        self.lm_head = nn.Linear(cfg["hidden_size"], cfg["vocab_size"], bias=False)
        n_layers = len(cfg["hybrid_override_pattern"])
        for name, param in self.named_parameters():
            if param.ndim == 2:
                std = cfg["hidden_size"] ** -0.5
                if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
                    std = param.shape[1] ** -0.5 / math.sqrt(n_layers)
                nn.init.normal_(param, std=std)

    def forward(self, tokens, wanted):
        """tokens [B,T] int64, wanted [B,T] bool -> logits of the wanted positions [n,V]."""
        return self.lm_head(self.backbone(tokens)[wanted])
