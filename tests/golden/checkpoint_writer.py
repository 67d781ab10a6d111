"""Writes a checkpoint in the layout of the Hugging Face hub, in the spelling that a spec asks for.

Between them the models of make_models.py use every spelling that a reader must accept: pattern
string and block lists in both vocabularies, `backbone.` and `model.` names, one tensor per expert
and stacked experts, shards, F32, BF16 and ModelOpt FP8, scalar and per-layer MLP widths.
"""

import json
import os
import struct

import numpy as np

import reference

BLOCK_NAMES = {
    "mamba": {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"},
    "linear_attention": {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"},
}
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
MERGES = [("t", "h"), ("i", "n"), ("th", "e")]
N_VOCAB = len(SPECIAL_TOKENS) + 256 + len(MERGES)  # 264, a multiple of 8: no padding is needed
SPLIT_REGEX = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SENTENCEPIECE_TEXT = (
    "the cat and the other cats sat on the mat in the morning sun and then they went into the house "
    "to find something to eat because the morning had made them hungry and the house was warm . "
    "there was a dish of milk near the door , and another one on the table , but the other animals "
    "had been there before them and there was nothing left to drink . so the cats went out again , "
    "and they found the sun had gone , and the rain was coming down on the mat and on the house .")
SENTENCEPIECE_TEMPLATE = (
    "{% for message in messages %}<extra_id_1>{{ message.role }}\n{{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}<extra_id_1>Assistant\n{% endif %}")
E4M3_MAX = 448.0


# ---------------------------------------------------------------- number formats


def f32_to_bf16(values):
    """Rounds to nearest even; the result is the upper 16 bits as uint16. NaN is not expected."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def f32_to_e4m3(values):
    """The nearest finite E4M3 code of each value."""
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F], np.uint8)
    table = reference.e4m3_to_f32(codes)
    order = np.argsort(table, kind="stable")
    codes, table = codes[order], table[order]
    return codes[np.searchsorted((table[1:] + table[:-1]) / 2, np.asarray(values, np.float32))]


def stored(values, dtype=None):
    """(safetensors dtype name, array whose bytes are the stored form)."""
    if dtype is None:
        dtype = {"float32": "F32", "int32": "I32"}[values.dtype.name]
    encode = {"F32": lambda v: np.asarray(v, "<f4"), "I32": lambda v: np.asarray(v, "<i4"),
              "BF16": f32_to_bf16, "F8_E4M3": f32_to_e4m3}[dtype]
    return dtype, encode(values)


def write_safetensors(path, tensors):
    """tensors: {name: (dtype name, array of the stored form)}, written in this order, no gaps."""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            file.write(array.tobytes())


# ---------------------------------------------------------------- JSON files


def config_json(spec):
    if spec["nemotron"]:
        return nemotron_config_json(spec)
    legacy = spec["legacy_names"]
    config = {
        "architectures": [f"NemotronH{'Puzzle' if spec['varying'] else ''}ForCausalLM"],
        "model_type": "nemotron_h_puzzle" if spec["varying"] else "nemotron_h",
        "torch_dtype": "float32" if spec["storage"] == "F32" else "bfloat16",
        "vocab_size": spec["n_vocab"],
        "hidden_size": spec["h"],
        "num_hidden_layers": len(spec["kinds"]) if spec["blocks"] == "pattern" else None,
        "num_attention_heads": spec["n_heads"],
        "num_key_value_heads": spec["n_kv"],
        "attention_head_dim" if legacy else "head_dim": spec["hd"],
        "attention_bias": False, "mlp_bias": False, "use_bias": False, "mamba_proj_bias": False,
        "mamba_num_heads": spec["H"],
        "mamba_head_dim": spec["P"],
        "ssm_state_size": spec["N"],
        "mamba_n_groups" if legacy else "n_groups": spec["G"],
        "mamba_d_conv" if legacy else "conv_kernel": spec["K"],
        "mamba_conv_bias" if legacy else "use_conv_bias": True,
        "mamba_chunk_size" if legacy else "chunk_size": 128,
        "expand": 2,
        "time_step_min": 0.001, "time_step_max": 0.1, "time_step_floor": 1e-4,
        "mamba_hidden_act": "silu", "mlp_hidden_act": "relu2",
        "rms_norm_eps" if legacy else "layer_norm_epsilon": 1e-5, "norm_eps": 1e-5,
        "residual_in_fp32": False, "tie_word_embeddings": spec["tied"],
        "max_position_embeddings": 4096, "rope_theta": 10000, "sliding_window": None,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }
    if spec["blocks"] == "pattern":
        config["hybrid_override_pattern"] = spec["kinds"]
    else:
        config["layers_block_type"] = [BLOCK_NAMES[spec["blocks"]][kind] for kind in spec["kinds"]]
        config["time_step_limit"] = [0.0, float("inf")]  # written as the non-standard Infinity
    widths = spec["ff"]
    config["intermediate_size"] = widths if len(set(widths)) > 1 else (widths or [spec["h"]])[0]
    if spec["moe"]:
        moe = spec["moe"]
        config.update({
            "n_routed_experts": moe["ne"], "num_experts_per_tok": moe["top_k"],
            "n_shared_experts": 1, "moe_intermediate_size": moe["mi"],
            "moe_shared_expert_intermediate_size": moe["shared"],
            "moe_latent_size": moe["latent"], "n_group": moe["n_group"],
            "topk_group": moe["topk_group"], "norm_topk_prob": True,
            "routed_scaling_factor": moe["scale"],
        })
    if spec["mtp"]:
        config["num_nextn_predict_layers"] = 1
        if spec["blocks"] == "pattern":
            config["mtp_hybrid_override_pattern"] = "*E"
        else:
            config["mtp_layers_block_type"] = [BLOCK_NAMES[spec["blocks"]][kind] for kind in "*E"]
    if spec["varying"]:
        blocks = [block_config(spec, kind, i) for i, kind in enumerate(spec["kinds"])]
        config["block_configs"] = blocks
        config["mtp_block_configs"] = [block_config(spec, kind, "mtp") for kind in "*E"]
        # As in published Puzzle models: these are told by the blocks alone.
        del config["num_experts_per_tok"], config["moe_intermediate_size"]
    return config


def nemotron_config_json(spec):
    return {
        "architectures": ["NemotronForCausalLM"], "model_type": "nemotron",
        "torch_dtype": "float32" if spec["storage"] == "F32" else "bfloat16",
        "vocab_size": spec["n_vocab"], "hidden_size": spec["h"],
        "num_hidden_layers": len(spec["kinds"]) // 2, "intermediate_size": spec["ff"][0],
        "num_attention_heads": spec["n_heads"], "num_key_value_heads": spec["n_kv"],
        "head_dim": spec["hd"], "partial_rotary_factor": 0.5, "rope_theta": 10000,
        "hidden_act": "relu2", "norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False,
        "attention_dropout": 0.0, "tie_word_embeddings": False, "max_position_embeddings": 4096,
        "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
    }


def layer_spec(spec, layer):
    """The spec that a layer (its index, or "mtp") follows: the model's, with what varies."""
    own = (spec["varying"] or {}).get(layer, {})
    moe = spec["moe"] and {**spec["moe"], **{k: v for k, v in own.items() if k in spec["moe"]}}
    return {**spec, **{k: v for k, v in own.items() if k in spec}, "moe": moe}


def block_config(spec, kind, layer):
    """An entry of block_configs or mtp_block_configs."""
    own = layer_spec(spec, layer)
    fields = {
        "M": lambda: {"ssm_state_size": own["N"]},
        "E": lambda: {"n_routed_experts": own["moe"]["ne"], "moe_latent_size": None,
                      "num_experts_per_tok": own["moe"]["top_k"],
                      "moe_intermediate_size": own["moe"]["mi"]},
    }.get(kind, dict)()
    return {"block_type": BLOCK_NAMES[spec["blocks"]][kind], **fields}


def byte_alphabet():
    """The printable character that byte-level BPE uses for each byte."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(moved)}}


def tokenizer_json():
    alphabet = byte_alphabet()
    pieces = SPECIAL_TOKENS + [alphabet[b] for b in range(256)] + [a + b for a, b in MERGES]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, text in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT_REGEX}, "behavior": "Isolated",
             "invert": False}, byte_level]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": True, "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in MERGES]},
    }


def tokenizer_config_json():
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
            "eos_token": "<|im_end|>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE}


# ---------------------------------------------------------------- SentencePiece


def bpe_pieces(text, n):
    """The n pieces that byte pair encoding merges first in a text, words led by U+2581."""
    words = [list("\u2581" + word) for word in text.split()]
    pieces = []
    while len(pieces) < n:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        pieces.append("".join(best))
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [pieces[-1]]
                i += 1
    return pieces


def proto(*fields):
    """A protobuf message of (number, value): int, float or bytes."""
    def varint(value):
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    message = b""
    for number, value in fields:
        if isinstance(value, int):
            message += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            message += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            message += varint(number << 3 | 2) + varint(len(value)) + value
    return message


def sentencepiece_model(n_pieces):
    """As Nemotron-4's: BPE with byte fallback, no normalization but the space before the text."""
    normal, unknown, control, user_defined, byte = 1, 2, 3, 4, 6
    pieces = [("<pad>", 0.0, control), ("<unk>", 0.0, unknown), ("<s>", 0.0, control),
              ("</s>", 0.0, control), ("<extra_id_0>", 0.0, user_defined),
              ("<extra_id_1>", 0.0, user_defined)]
    pieces += [(f"<0x{value:02X}>", 0.0, byte) for value in range(256)]
    letters = "\u2581etaoinshrdlucmfwypvbgk.,"
    merged = bpe_pieces(SENTENCEPIECE_TEXT, n_pieces - len(pieces) - len(letters))
    pieces += [(piece, -float(rank), normal) for rank, piece in enumerate([*merged, *letters])]
    return proto(
        *((1, proto((1, text.encode()), (2, score), (3, kind))) for text, score, kind in pieces),
        (2, proto((3, 2), (4, n_pieces), (35, 1), (40, 1), (41, 2), (42, 3), (43, 0))),
        (3, proto((1, b"identity"), (3, 1), (4, 0), (5, 1))))


def sentencepiece_config_json():
    added = {str(i): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                      "single_word": False, "special": True}
             for i, text in enumerate(["<pad>", "<unk>", "<s>", "</s>", "<extra_id_0>",
                                       "<extra_id_1>"])}
    return {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
            "added_tokens_decoder": added, "bos_token": "<s>", "eos_token": "</s>",
            "pad_token": "<pad>", "unk_token": "<unk>", "legacy": False,
            "chat_template": SENTENCEPIECE_TEMPLATE}


# ---------------------------------------------------------------- tensors


def nemotron_names(weights):
    """Canonical weights -> {checkpoint name: float64 array} of NemotronForCausalLM."""
    outer = {canonical: name for name, canonical in reference.NEMOTRON_OUTER.items()}
    parts = {canonical: name for name, canonical in reference.NEMOTRON_PARTS.items()}
    tensors = {}
    for name, value in weights.items():
        stem, _, suffix = name.rpartition(".")
        if stem in outer:
            tensors[f"{outer[stem]}.{suffix}"] = value
        else:
            layer, _, part = stem.removeprefix("layers.").partition(".")
            block, second = divmod(int(layer), 2)
            tensors[f"model.layers.{block}.{parts[second, part]}.{suffix}"] = value
    return tensors


def checkpoint_names(spec, weights):
    """Canonical weights -> {checkpoint name: float64 array}, in the spelling of the spec."""
    if spec["nemotron"]:
        return nemotron_names(weights)
    tensors = {}
    for name, value in weights.items():
        has_no_prefix = name == "lm_head.weight" or name.startswith("mtp.")
        full = name if has_no_prefix else spec["prefix"] + name
        if ".experts." not in name:
            tensors[full] = value
        elif spec["stacked"]:
            tensors[full.removesuffix(".weight")] = value
        else:
            head, tail = full.split(".experts.")
            for expert, matrix in enumerate(value):
                tensors[f"{head}.experts.{expert}.{tail}"] = matrix
    return tensors


def stored_tensors(spec, tensors):
    """{name: (dtype, bytes array)}; FP8 linears get weight_scale and input_scale beside them."""
    result = {}
    for name, value in tensors.items():
        is_float = name.endswith((".A_log", ".D", ".dt_bias")) and spec["f32_scalars"]
        if spec["storage"] == "F32" or is_float or name.endswith("e_score_correction_bias"):
            result[name] = stored(value, "F32")
        elif spec["storage"] == "FP8" and name.endswith(("in_proj.weight", "out_proj.weight",
                                                         "up_proj.weight", "down_proj.weight")):
            scale = np.float32(np.abs(value).max() / E4M3_MAX)
            # Both shapes of a scalar occur in the wild.
            shape = () if "layers.0." in name else (1,)
            result[name] = stored(value / scale, "F8_E4M3")
            result[f"{name}_scale"] = stored(np.full(shape, scale), "F32")
            result[name.replace(".weight", ".input_scale")] = stored(np.full(shape, 0.01), "F32")
        else:
            result[name] = stored(value, "BF16")
    return result


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file, separators=(",", ":"))
        file.write("\n")


def write_checkpoint(directory, spec, weights):
    os.makedirs(directory, exist_ok=True)
    tensors = stored_tensors(spec, checkpoint_names(spec, weights))
    if spec["n_shards"] == 1:
        write_safetensors(os.path.join(directory, "model.safetensors"), tensors)
    else:
        weight_map, names = {}, list(tensors)
        for shard in range(spec["n_shards"]):
            file_name = f"model-{shard + 1:05d}-of-{spec['n_shards']:05d}.safetensors"
            part = {name: tensors[name] for name in names[shard :: spec["n_shards"]]}
            write_safetensors(os.path.join(directory, file_name), part)
            weight_map.update({name: file_name for name in part})
        n_bytes = sum(array.nbytes for _, array in tensors.values())
        write_json(os.path.join(directory, "model.safetensors.index.json"),
                   {"metadata": {"total_size": n_bytes}, "weight_map": weight_map})
    write_json(os.path.join(directory, "config.json"), config_json(spec))
    ends = {"bos_token_id": 2, "eos_token_id": 3} if spec["nemotron"] else {
        "bos_token_id": 1, "eos_token_id": [2, 4]}
    write_json(os.path.join(directory, "generation_config.json"),
               {**ends, "pad_token_id": 0, "do_sample": True, "temperature": 1.0, "top_p": 1.0})
    if spec["nemotron"]:
        with open(os.path.join(directory, "tokenizer.model"), "wb") as file:
            file.write(sentencepiece_model(spec["n_vocab"]))
        tokenizer_config = sentencepiece_config_json()
    else:
        write_json(os.path.join(directory, "tokenizer.json"), tokenizer_json())
        tokenizer_config = tokenizer_config_json()
    write_json(os.path.join(directory, "tokenizer_config.json"), tokenizer_config)
    if spec["storage"] == "FP8":
        write_json(os.path.join(directory, "hf_quant_config.json"), {
            "producer": {"name": "modelopt", "version": "0.29.0"},
            "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8",
                             "exclude_modules": ["lm_head", "backbone.embeddings",
                                                 "backbone.layers.2*"]}})
