"""Trains the demo model on a CPU and writes the checkpoint (bf16, Hugging Face layout).

The loss counts the answers only. In the second half of the training, every other step runs with
the weights rounded to Q4_0 (straight-through gradient), so that the quantized files answer as well.
"""
import argparse
import json
import math
import random
import time
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from data import Corpus, segments
from model import CONFIG, NemotronH, check_scan, scan_chunks

IGNORED = -100
BOS, EOS, IM_END = 1, 2, 11
WARM_UP = 60  # steps


class Batches:
    """Endless batches of about n_tokens tokens; rows of one batch have similar lengths."""

    def __init__(self, tokenizer, n_tokens, seed):
        self.corpus, self.rng = Corpus(), random.Random(seed)
        self.tokenizer, self.n_tokens = tokenizer, n_tokens

    def encode(self, conversation):
        ids, labels = [BOS], [IGNORED]
        for text, is_answer in segments(conversation):
            new = self.tokenizer.encode(text, add_special_tokens=False).ids
            ids += new
            labels += new if is_answer else [IGNORED] * len(new)
        return ids[:-1], labels[1:]

    def __iter__(self):
        while True:
            pool = sorted((self.encode(self.corpus.conversation(self.rng)) for _ in range(2000)),
                          key=lambda sample: len(sample[0]))
            batches, batch = [], []
            for sample in pool:
                width = padded(len(sample[0]))
                if batch and (len(batch) + 1) * width > self.n_tokens:
                    batches.append(batch)
                    batch = []
                batch.append(sample)
            self.rng.shuffle(batches)
            yield from map(collate, batches)


def padded(n_tokens):
    """The next length that the scan can cut into equal chunks of a multiple of 4 tokens."""
    unit = 4 * scan_chunks(n_tokens)
    return -(-n_tokens // unit) * unit


def collate(batch):
    width = padded(max(len(ids) for ids, _ in batch))
    tokens = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    for i, (ids, wanted) in enumerate(batch):
        tokens[i, :len(ids)] = torch.tensor(ids)
        labels[i, :len(wanted)] = torch.tensor(wanted)
    return tokens, labels


def round_q4_0(weight):
    """The values that Q4_0 keeps: blocks of 32, scale = signed largest value / -8, levels 0..15."""
    blocks = weight.view(-1, 32)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = (largest / -8).half().float()
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    levels = (blocks * inverse + 8.5).floor().clamp(0, 15) - 8
    return (levels * scale).view_as(weight)


@contextmanager
def rounded_weights(model, active):
    """Inside, matrices hold their Q4_0 values; the gradients then apply to the exact weights."""
    matrices = [p for p in model.parameters() if p.ndim == 2] if active else []
    exact = [p.data for p in matrices]
    for p in matrices:
        p.data = round_q4_0(p.data)
    yield
    for p, data in zip(matrices, exact):
        p.data = data


def make_optimizers(model, rate):
    """Muon for the matrices of the layers (it needs fewer steps), AdamW for the rest."""
    inner = [p for p in model.backbone.layers.parameters() if p.ndim == 2]
    inner_ids = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in inner_ids]
    return [torch.optim.Muon(inner, lr=2 * rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True)]


def save(model, folder):
    tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({
        "bos_token_id": BOS, "eos_token_id": [EOS, IM_END], "pad_token_id": 0, "do_sample": False},
        indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="has the tokenizer; receives the checkpoint")
    parser.add_argument("--minutes", type=float, required=True, help="the learning rate follows the clock")
    parser.add_argument("--tokens", type=int, default=2048, help="per step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--init", type=Path, help="a model.safetensors to start from")
    parser.add_argument("--round-from", type=float, default=0.5, help="part of the time before rounding starts")
    parser.add_argument("--compile", action="store_true", help="fuse the element-wise work (needs a C++ compiler)")
    args = parser.parse_args()

    check_scan()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = NemotronH(CONFIG)
    if args.init:
        model.load_state_dict({name: t.float() for name, t in load_file(str(args.init)).items()})
    if args.compile:
        for layer in model.backbone.layers:
            layer.compile(dynamic=True)
    optimizers = make_optimizers(model, args.rate)
    batches = iter(Batches(Tokenizer.from_file(str(args.folder / "tokenizer.json")), args.tokens, args.seed))
    start, n_tokens, total, count = time.time(), 0, 0.0, 0
    step, progress, next_save = 0, 0.0, 0.2
    while progress < 1:
        progress = min(1, (time.time() - start) / 60 / args.minutes)
        scale = min(1, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * scale
        tokens, labels = next(batches)
        wanted = labels != IGNORED
        with rounded_weights(model, progress >= args.round_from and step % 2 == 0):
            loss = F.cross_entropy(model(tokens, wanted), labels[wanted])
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        n_tokens, total, count = n_tokens + tokens.numel(), total + loss.item(), count + 1
        step += 1
        if step % 50 == 0 or progress == 1:
            print(f"step {step} progress {progress:.2f} loss {total / count:.4f} tokens {n_tokens}", flush=True)
            total, count = 0.0, 0
        if progress >= next_save:
            save(model, args.folder)
            next_save += 0.1
    save(model, args.folder)


if __name__ == "__main__":
    main()
