"""Makes the tiny checkpoints and their golden files, deterministically from the seeds below.

    python3 make_models.py [--only NAME] [--check]

Each model is small but leaves nothing trivial: norm weights, D, A_log, dt_bias, conv bias and the
router correction are random, and every mixer's output is scaled to a fixed share of the residual
stream, so that a wrong mixer shows in the logits. For mixture-of-experts models the tokens are
picked one by one such that no routing decision is close, in the exact weights and in both
quantized versions: a tolerance test must not turn on which side of a tie the rounding falls.

Every row length is a multiple of 32, several are not multiples of 64 and most are not of 256.
"""

import argparse
import os
import sys

import numpy as np

import block_formats
import check
import checkpoint_writer
import reference

N_TOKENS = 136  # more than 2 * 64 + 5, so that prefill chunks of 64 and 65 end inside
POSITION_STRIDE = 8  # every 8th position keeps its logits on quantized weights
MIN_ROUTING_MARGIN = 0.02
N_TOKEN_CANDIDATES = 60
INT8_LIMIT = 1.25e-2  # of the 2e-2 that a quantized engine is allowed
MODELS_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")

DEFAULTS = {
    "n_heads": 4, "n_kv": 2, "hd": 32, "ff": [], "moe": None, "storage": "BF16",
    "f32_scalars": True,
    "prefix": "backbone.", "blocks": "pattern", "stacked": False, "n_shards": 1, "tied": False,
    "mtp": False, "legacy_names": False, "mixer_size": 0.2, "K": 4,
    "nemotron": False, "n_vocab": checkpoint_writer.N_VOCAB,
    "varying": None,  # {layer index or "mtp": what is different there}; a Puzzle model
}

MODELS = {
    "dense": {
        "seed": 5, "kinds": "M-*M-", "h": 32, "H": 8, "P": 12, "N": 16, "G": 2, "ff": [96, 96],
        "hd": 24, "storage": "F32",
    },
    "mixed_order": {
        "seed": 11, "kinds": "MM---*-M*", "h": 32, "H": 12, "P": 24, "N": 16, "G": 3,
        "n_heads": 3, "n_kv": 1, "ff": [64] * 4, "mixer_size": 0.15, "blocks": "linear_attention",
    },
    "moe": {
        "seed": 11, "kinds": "ME*E", "h": 32, "H": 8, "P": 8, "N": 8, "G": 2,
        "n_heads": 6, "n_kv": 2, "hd": 16, "blocks": "mamba", "mixer_size": 0.25,
        "moe": {"ne": 8, "top_k": 3, "mi": 32, "shared": 96, "latent": None, "n_group": 1,
                "topk_group": 1, "scale": 2.5},
    },
    "moe_latent": {
        "seed": 11, "kinds": "ME*E", "h": 64, "H": 4, "P": 16, "N": 16, "G": 2, "n_heads": 2,
        "n_kv": 1, "blocks": "linear_attention", "prefix": "model.",
        "stacked": True, "mtp": True,
        "moe": {"ne": 8, "top_k": 2, "mi": 32, "shared": 32, "latent": 32, "n_group": 2,
                "topk_group": 1, "scale": 1.5},
    },
    "per_layer": {
        "seed": 4, "kinds": "-M-*-", "h": 32, "H": 6, "P": 16, "N": 16, "G": 3, "n_heads": 2,
        "n_kv": 1, "ff": [32, 160, 96], "n_shards": 2, "f32_scalars": False, "legacy_names": True,
    },
    "fp8": {
        "seed": 11, "kinds": "M-*M", "h": 64, "H": 8, "P": 8, "N": 16, "G": 4, "n_kv": 1, "hd": 32,
        "ff": [96], "storage": "FP8", "mixer_size": 0.22,
    },
    "one_group": {
        "seed": 4, "kinds": "M-M-", "h": 96, "H": 4, "P": 24, "N": 32, "G": 1, "ff": [64, 64],
        "tied": True, "K": 3, "mixer_size": 0.3,
    },
    "mtp": {
        "seed": 13, "kinds": "ME*E", "h": 32, "H": 4, "P": 8, "N": 8, "G": 2, "n_heads": 2,
        "n_kv": 1, "mtp": True, "mixer_size": 0.25,
        "moe": {"ne": 4, "top_k": 2, "mi": 32, "shared": 32, "latent": None, "n_group": 1,
                "topk_group": 1, "scale": 2.5},
    },
    "puzzle": {
        "seed": 11, "kinds": "MEM*EE", "h": 64, "H": 4, "P": 8, "N": 96, "G": 2, "n_heads": 2,
        "n_kv": 1, "blocks": "mamba", "prefix": "model.", "mtp": True,
        "moe": {"ne": 8, "top_k": 2, "mi": 32, "shared": 32, "latent": 32, "n_group": 1,
                "topk_group": 1, "scale": 1.5},
        "varying": {1: {"top_k": 3, "mi": 64}, 2: {"N": 32}, 4: {"ne": 4, "top_k": 1},
                    5: {"ne": 12, "mi": 96}, "mtp": {"top_k": 4, "mi": 64}},
    },
    "nemotron": {
        "seed": 7, "kinds": "*-*-", "h": 96, "n_heads": 6, "n_kv": 2, "hd": 16, "ff": [160, 160],
        "nemotron": True, "n_vocab": 384,
    },
}


def normal(rng, *shape, std):
    return rng.standard_normal(shape) * std


def mamba_weights(rng, spec):
    h, n_heads, groups, state = spec["h"], spec["H"], spec["G"], spec["N"]
    di = n_heads * spec["P"]
    cd = di + 2 * groups * state
    in_proj = normal(rng, di + cd + n_heads, h, std=h**-0.5)
    in_proj[-n_heads:] *= 0.5  # the step sizes follow dt_bias first, the token second
    dt = np.exp(rng.uniform(np.log(0.01), np.log(0.5), n_heads))
    dt[0] = 2e-4  # below time_step_min, which must not be applied when running a model
    return {
        "in_proj.weight": in_proj,
        "conv1d.weight": normal(rng, cd, 1, spec["K"], std=spec["K"] ** -0.5),
        "conv1d.bias": normal(rng, cd, std=0.2),
        "A_log": np.log(rng.uniform(0.5, 8.0, n_heads)),
        "D": 1.0 + normal(rng, n_heads, std=0.3),
        "dt_bias": dt + np.log(-np.expm1(-dt)),  # the inverse of softplus
        "norm.weight": rng.uniform(0.7, 1.3, di),
        "out_proj.weight": normal(rng, h, di, std=di**-0.5),
    }


def attention_weights(rng, spec):
    h, q_rows, kv_rows = spec["h"], spec["n_heads"] * spec["hd"], spec["n_kv"] * spec["hd"]
    return {
        "q_proj.weight": normal(rng, q_rows, h, std=1.5 * h**-0.5),
        "k_proj.weight": normal(rng, kv_rows, h, std=h**-0.5),
        "v_proj.weight": normal(rng, kv_rows, h, std=h**-0.5),
        "o_proj.weight": normal(rng, h, q_rows, std=q_rows**-0.5),
    }


def moe_weights(rng, spec):
    h, moe = spec["h"], spec["moe"]
    inner = moe["latent"] or h
    weights = {
        "gate.weight": normal(rng, moe["ne"], h, std=1.5 * h**-0.5),
        "gate.e_score_correction_bias": normal(rng, moe["ne"], std=0.1),
        "experts.up_proj.weight": normal(rng, moe["ne"], moe["mi"], inner, std=inner**-0.5),
        "experts.down_proj.weight": normal(rng, moe["ne"], inner, moe["mi"], std=moe["mi"] ** -0.5),
        "shared_experts.up_proj.weight": normal(rng, moe["shared"], h, std=h**-0.5),
        "shared_experts.down_proj.weight": normal(rng, h, moe["shared"], std=moe["shared"] ** -0.5),
    }
    if moe["latent"]:
        weights["fc1_latent_proj.weight"] = normal(rng, inner, h, std=h**-0.5)
        weights["fc2_latent_proj.weight"] = normal(rng, h, inner, std=inner**-0.5)
    return weights


def mlp_weights(rng, spec, width):
    return {
        "up_proj.weight": normal(rng, width, spec["h"], std=spec["h"] ** -0.5),
        "down_proj.weight": normal(rng, spec["h"], width, std=width**-0.5),
    }


def norm_weights(rng, spec, name):
    weight = rng.uniform(0.7, 1.3, spec["h"])
    if not spec["nemotron"]:
        return {f"{name}.weight": weight}
    return {f"{name}.weight": weight - 1.0, f"{name}.bias": normal(rng, spec["h"], std=0.2)}


def random_weights(rng, spec):
    """Canonical names, experts stacked, float64, mixers not yet scaled."""
    h, n_vocab = spec["h"], spec["n_vocab"]
    weights = {"embeddings.weight": normal(rng, n_vocab, h, std=1.0)}
    widths = iter(spec["ff"])
    for i, kind in enumerate(spec["kinds"]):
        own = checkpoint_writer.layer_spec(spec, i)
        mixer = {
            "M": lambda: mamba_weights(rng, own), "*": lambda: attention_weights(rng, own),
            "-": lambda: mlp_weights(rng, own, next(widths)), "E": lambda: moe_weights(rng, own),
        }[kind]()
        weights.update(norm_weights(rng, spec, f"layers.{i}.norm"))
        weights.update({f"layers.{i}.mixer.{name}": value for name, value in mixer.items()})
    weights.update(norm_weights(rng, spec, "norm_f"))
    # A tied head has the unit-size rows of the embeddings: smaller norms keep the logits moderate.
    if spec["tied"]:
        weights["norm_f.weight"] *= 2.0 * h**-0.5
    else:
        weights["lm_head.weight"] = normal(rng, n_vocab, h, std=2.0 * h**-0.5)
    return weights


def mtp_weights(spec):
    """The multi-token prediction head: the checkpoint carries it, the reference does not run it."""
    rng = np.random.default_rng(spec["seed"] + 1)
    own, h = checkpoint_writer.layer_spec(spec, "mtp"), spec["h"]
    blocks = [{"enorm.weight": rng.uniform(0.7, 1.3, h), "hnorm.weight": rng.uniform(0.7, 1.3, h),
               "eh_proj.weight": normal(rng, h, 2 * h, std=h**-0.5),
               "norm.weight": rng.uniform(0.7, 1.3, h)},
              {"norm.weight": rng.uniform(0.7, 1.3, h),
               "final_layernorm.weight": rng.uniform(0.7, 1.3, h)}]
    mixers = [attention_weights(rng, own), moe_weights(rng, own)]
    for block, mixer in zip(blocks, mixers):
        block.update({f"mixer.{name}": value for name, value in mixer.items()})
    return {f"mtp.layers.{i}.{name}": value
            for i, block in enumerate(blocks) for name, value in block.items()}


LAST_MATRICES = {
    "M": ["out_proj"], "*": ["o_proj"], "-": ["down_proj"],
    "E": ["fc2_latent_proj", "shared_experts.down_proj"],
}


def scale_mixers(rng, spec, config, weights):
    """Sets each mixer's output to mixer_size of the residual stream that it is added to."""
    tokens = rng.integers(0, config.V, 64)
    for i, kind in enumerate(spec["kinds"]):
        model = reference.Model(config, weights)
        model.trace = {}
        model.forward(tokens, reference.State(config))
        size, residual = model.trace[f"size.{i}"]
        last = LAST_MATRICES[kind]
        if kind == "E" and not spec["moe"]["latent"]:
            last = ["experts.down_proj", "shared_experts.down_proj"]
        for name in last:
            weights[f"layers.{i}.mixer.{name}.weight"] *= spec["mixer_size"] * residual / size


def choose_tokens(rng, config, models):
    """N_TOKENS token ids; with routers, ids whose routing margins are wide in every model."""
    if "E" not in config.kinds:
        return rng.integers(0, config.V, N_TOKENS), None
    states = [reference.State(config) for _ in models]
    tokens, worst_margin = [], np.inf
    while len(tokens) < N_TOKENS:
        best = (-np.inf, None, None)
        for candidate in rng.integers(0, config.V, N_TOKEN_CANDIDATES):
            after = [state.copy() for state in states]
            for model, state in zip(models, after):
                model.trace = {}
                model.forward([candidate], state)
            margin = min(min(model.trace["margins"]) for model in models)
            if margin > best[0]:
                best = (margin, candidate, after)
            if margin > MIN_ROUTING_MARGIN:
                break
        worst_margin = min(worst_margin, best[0])
        tokens.append(best[1])
        states = best[2]
    for model in models:
        model.trace = None
    return np.array(tokens), worst_margin


def relative_error(a, b):
    """The largest over positions of ||a-b|| / ||b||."""
    return (np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max()


def golden(directory, rng):
    """Reads the written checkpoint back and computes its golden tensors; returns what to report."""
    config, weights = reference.load(directory)
    formats = {"q8_0": block_formats.q8_0, "q4_0": block_formats.q4_0}
    exact = reference.Model(config, weights)
    quantized = {name: reference.Model(config, block_formats.quantized(weights, encode))
                 for name, encode in formats.items()}
    tokens, margin = choose_tokens(rng, config, [exact, *quantized.values()])

    state = reference.State(config)
    exact.trace = {}
    logits = exact.forward(tokens, state)
    positions = np.arange(POSITION_STRIDE - 1, N_TOKENS, POSITION_STRIDE)
    tensors = {"tokens": tokens.astype(np.int32), "logits": logits.astype(np.float32),
               "quantized.positions": positions.astype(np.int32)}
    report = {"logits std": logits.std(), "margin": margin}
    if margin is not None:
        report["experts used"] = len({(i, e) for i, ids in exact.trace["experts"] for e in ids})
    for name, model in quantized.items():
        on_quantized = model.forward(tokens, reference.State(config))
        tensors[f"logits.{name}"] = on_quantized[positions].astype(np.float32)
        model.quantize_activations = block_formats.int8_activations
        on_int8 = model.forward(tokens, reference.State(config))
        report[f"{name} int8 error"] = relative_error(on_int8, on_quantized)
        report[f"{name} vs exact"] = relative_error(on_quantized, logits)
    for field in ("conv", "ssm", "k", "v"):
        for i, value in getattr(state, field).items():
            tensors[f"state.{field}.{i}"] = value.astype(np.float32)
    checkpoint_writer.write_safetensors(
        os.path.join(directory, "golden.safetensors"),
        {name: checkpoint_writer.stored(value) for name, value in tensors.items()})
    if any(report[f"{name} int8 error"] > INT8_LIMIT for name in formats):
        sys.exit(f"{directory}: int8 activations alone exceed {INT8_LIMIT}: {report}")
    if margin is not None and margin < MIN_ROUTING_MARGIN:
        sys.exit(f"{directory}: a routing decision is as close as {margin}")
    return report


def make(name):
    spec = {**DEFAULTS, **MODELS[name]}
    rng = np.random.default_rng(spec["seed"])
    config = reference.Config(checkpoint_writer.config_json(spec))
    weights = random_weights(rng, spec)
    scale_mixers(rng, spec, config, weights)
    directory = os.path.join(MODELS_DIR, name)
    stored = {**weights, **mtp_weights(spec)} if spec["mtp"] else weights
    checkpoint_writer.write_checkpoint(directory, spec, stored)
    return directory, golden(directory, rng)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(MODELS))
    parser.add_argument("--check", action="store_true", help="only check what is committed")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else MODELS:
        directory = os.path.join(MODELS_DIR, name)
        if not arguments.check:
            directory, report = make(name)
            print(name, {key: float(f"{value:.3g}") for key, value in report.items()
                         if value is not None})
        print(name, check.check_model(directory))


if __name__ == "__main__":
    main()
