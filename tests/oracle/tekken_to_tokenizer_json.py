#!/usr/bin/env python3
"""Builds a tokenizer.json from the tekken vocabulary that the mistral-common package ships.

    pip install mistral-common tokenizers
    tekken_to_tokenizer_json.py OUT.json [--no-bos] [--flags]

The result has the shape of NVIDIA's Nemotron files: 1000 special ids, then the byte-level tokens in
rank order, every pair of tokens that joins to a third one as a merge (as transformers converts
tiktoken files), ignore_merges, the tekken split, and BOS by post-processor unless --no-bos. With
--flags a few added tokens use lstrip, rstrip, single_word and normalized, so that a comparison covers
them (decoding does not give back the white space that they strip).
"""
import argparse
import base64
import json
import pathlib

import mistral_common

N_SPECIAL = 1000
N_VOCAB = 131072
NAMED = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
         "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<|im_start|>", "<|im_end|>", "<think>",
         "</think>"]
ORDINARY = ("<think>", "</think>", "nemotron", "<|im")
FLAGS = {14: ("<mask>", {"lstrip": True}), 15: ("<strip>", {"rstrip": True}),
         16: ("nemotron", {"single_word": True}), 17: ("<|im", {"normalized": True})}


def byte_alphabet():
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in itself]
    return {**{b: chr(b) for b in itself}, **{b: chr(0x100 + i) for i, b in enumerate(others)}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--no-bos", action="store_true")
    parser.add_argument("--flags", action="store_true")
    options = parser.parse_args()
    data = pathlib.Path(mistral_common.__file__).parent / "data" / "tekken_240718.json"
    tekken = json.loads(data.read_text())
    alphabet = byte_alphabet()
    ranked = [base64.b64decode(entry["token_bytes"]) for entry in tekken["vocab"]]
    ranked = ranked[: N_VOCAB - N_SPECIAL]
    rank = {token: i for i, token in enumerate(ranked)}

    def spell(token):
        return "".join(alphabet[b] for b in token)

    merges = []
    for token in ranked[256:]:
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [(a, b) for a, b in pairs if a in rank and b in rank]
        merges += sorted(pairs, key=lambda pair: (rank[pair[0]], rank[pair[1]]))

    added = []
    for i in range(N_SPECIAL):
        content, flags = (f"<SPECIAL_{i}>", {})
        if i < len(NAMED):
            content = NAMED[i]
        elif options.flags and i in FLAGS:
            content, flags = FLAGS[i]
        token = {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": content not in ORDINARY}
        added.append({**token, **flags})
    vocab = {token["content"]: token["id"] for token in added}
    vocab.update({spell(token): N_SPECIAL + i for i, token in enumerate(ranked)})
    bos = {"type": "TemplateProcessing",
           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                      {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    split = {"type": "Split", "pattern": {"Regex": tekken["config"]["pattern"]},
             "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None if options.no_bos else bos,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": True, "vocab": vocab,
                  "merges": [f"{spell(a)} {spell(b)}" for a, b in merges]}}
    pathlib.Path(options.out).write_text(json.dumps(tokenizer, ensure_ascii=False))
    print(f"{options.out}: {len(vocab)} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main()
