#!/usr/bin/env python3
"""Compares nemo's token ids with Hugging Face tokenizers and with sentencepiece.

    pip install tokenizers sentencepiece
    cmake --build BUILD --target bulk_tokenize
    compare_tokenizers.py BUILD/bulk_tokenize TOKENIZER [--mb 12] [--seed 1] [--lossy]

TOKENIZER is a tokenizer.json or a SentencePiece .model. The text is mixed: source code and documents
found on this machine, words of many scripts, random code points of all of Unicode, emoji sequences,
runs of white space, invalid UTF-8 (which becomes U+FFFD before either side sees it), and added tokens
whole, cut, nested and next to each other. Every document is also decoded again by
bulk_tokenize and must come back unchanged, unless --lossy says that the tokenizer strips white space.
"""
import argparse
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

SCRIPTS = {"latin": (0x61, 0x7A), "latin1": (0xC0, 0x17F), "greek": (0x391, 0x3C9),
           "cyrillic": (0x410, 0x44F), "hebrew": (0x5D0, 0x5EA), "arabic": (0x620, 0x652),
           "devanagari": (0x900, 0x97F), "bengali": (0x980, 0x9FE), "tamil": (0xB82, 0xBFA),
           "thai": (0xE01, 0xE5B), "tibetan": (0xF00, 0xFDA), "georgian": (0x10A0, 0x10FF),
           "hangul": (0xAC00, 0xD7A3), "hiragana": (0x3041, 0x309F), "katakana": (0x30A0, 0x30FF),
           "han": (0x4E00, 0x9FFF), "combining": (0x300, 0x36F), "emoji": (0x1F300, 0x1FAFF),
           "symbols": (0x2190, 0x2BFF), "fullwidth": (0xFF01, 0xFFEE), "math": (0x1D400, 0x1D7FF),
           "han_h": (0x31350, 0x323AF), "garay": (0x10D40, 0x10D8F), "upper": (0x41, 0x5A)}
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085",
          "\u180e", "\u200b", "\u200d", "\ufeff", "\x0b", "\x0c", "    ", " " * 17, "\n" * 5, "\t" * 9]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["'s", "'LL", "...", "//", "->", ";\n//",
                                                            "/**/", "\u2019s", "\u00bf", "\u3002"]


def local_files(rng, n_bytes):
    """Documents from files of this machine, decoded with errors=replace (so binaries count too)."""
    roots = [pathlib.Path(sys.prefix) / "lib", pathlib.Path("/usr/share"), pathlib.Path("/usr/include"),
             pathlib.Path("/usr/lib/python3"), pathlib.Path("/usr/bin")]
    patterns = ["*.py", "*.h", "*.po", "*.txt", "*.md", "*.json", "*.xml", "*.html", "*.mo", "*"]
    files = []
    for root in roots:
        for pattern in patterns:
            found = [f for _, f in zip(range(4000), root.rglob(pattern))]
            rng.shuffle(found)
            files += found[:300]
    rng.shuffle(files)
    total = 0
    for file in files:
        if total >= n_bytes:
            return
        try:
            if not file.is_file():
                continue
            with open(file, "rb") as stream:
                text = stream.read(rng.choice([500, 5000, 60000])).decode("utf-8", "replace")
        except OSError:
            continue
        total += len(text.encode())
        yield text


def random_word(rng):
    first, last = SCRIPTS[rng.choice(list(SCRIPTS))]
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9)))


def random_document(rng, added):
    parts = []
    for _ in range(rng.randint(1, 120)):
        kind = rng.random()
        if kind < 0.5:
            parts.append(random_word(rng))
        elif kind < 0.7:
            parts.append(rng.choice(SPACES))
        elif kind < 0.8:
            parts.append(rng.choice(PUNCTUATION))
        elif kind < 0.85:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 12))))
        elif kind < 0.9:
            point = rng.randint(0, 0x10FFFF)
            parts.append(chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd")
        elif kind < 0.93:
            parts.append(rng.randbytes(rng.randint(1, 12)).decode("utf-8", "replace"))
        elif kind < 0.95:
            parts.append("\U0001F468\u200d\U0001F469\u200d\U0001F467\U0001F3FD\ufe0f")
        elif added:
            token = rng.choice(added)
            cut = rng.randint(0, len(token))
            parts.append(rng.choice([token, token[:cut], token[cut:], token[:cut] + token + token[cut:],
                                     " " + token + " ", "\u3000\n" + token + "\u00a0\t"]))
        if rng.random() < 0.4:
            parts.append(" ")
    return "".join(parts)


def all_code_points():
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    for i in range(0, len(points), 4096):
        chunk = points[i:i + 4096]
        yield "".join(map(chr, chunk))
        yield " ".join("a" + chr(p) for p in chunk)
    yield "".join("A" + chr(p) + "b" for p in points)


def documents(rng, n_bytes, added):
    yield from ["", " ", "\n", "a", "\u00e9"]
    yield from all_code_points()
    yield from (c * 100_000 for c in ("a", "A", " ", "\n", "1", "-", "\u4e00", "\u0301", "\U0001F600"))
    yield from local_files(rng, n_bytes // 2)
    total = 0
    while total < n_bytes // 2:
        text = random_document(rng, added)
        total += len(text.encode())
        yield text


def load_oracle(path):
    """A function from text to ids, and the added tokens' texts."""
    if path.suffix == ".json":
        import tokenizers
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        added = [t["content"] for t in json.loads(path.read_text())["added_tokens"]]
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, added[:40]
    import sentencepiece
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return processor.encode, []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bulk_tokenize")
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--mb", type=float, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lossy", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    encode, added = load_oracle(options.tokenizer)
    texts = list(documents(rng, int(options.mb * 1e6), added))
    encoded = [text.encode() for text in texts]
    n_bytes = sum(map(len, encoded))
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder) / "documents", pathlib.Path(folder) / "ids"
        source.write_bytes(b"".join(struct.pack("<I", len(e)) + e for e in encoded))
        # sentencepiece finds no control pieces in text, as we do in text that is not trusted.
        trust = [] if options.tokenizer.suffix == ".json" else ["untrusted"]
        run = subprocess.run([options.bulk_tokenize, options.tokenizer, source, target, *trust],
                             stdout=subprocess.PIPE, text=True, check=True)
        print(run.stdout, end="")
        n_not_restored = int(re.search(r"(\d+) not restored", run.stdout)[1])
        ids = memoryview(target.read_bytes()).cast("i")
    start = time.monotonic()
    n_wrong = n_ids = at = 0
    for text in texts:
        n = ids[at]
        ours = list(ids[at + 1:at + 1 + n])
        at += 1 + n
        theirs = encode(text)
        n_ids += len(theirs)
        if ours != theirs:
            n_wrong += 1
            if n_wrong <= 5:
                i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(n, len(theirs)))
                print(f"differs at {i}: ours {ours[i:i + 8]}, theirs {theirs[i:i + 8]} in {text[:60]!r}")
    print(f"{len(texts)} documents, {n_bytes} bytes, {n_ids} ids, {n_wrong} documents differ "
          f"(oracle took {time.monotonic() - start:.1f} s)")
    return 1 if n_wrong or (n_not_restored and not options.lossy) else 0


if __name__ == "__main__":
    sys.exit(main())
