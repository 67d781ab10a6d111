#!/usr/bin/env python3
"""Files of nemo-convert --fit against the fixed mixes of the same size, by what they do to predictions.

    compare_fit.py NEMO_BUILD_FOLDER SCRATCH_FOLDER

On the demo model, with chat text from assets/demo_training: calibration.txt and evaluation.txt share
no question. Prints
- how sensitive the predictions are to errors in each matrix, and in each kind (nemo-cli imatrix
  --sensitivity): mean KL divergence on calibration.txt with the matrix in Q4_0 and the rest in F32,
  over the matrix's relative squared error; the defaults of convert/sensitivity.cpp follow these,
- size of the mix, mean KL divergence from the F32 model on evaluation.txt of the mix and of the
  fitted file, each without and with the importance matrix. A fitted file without one uses the
  default sensitivities.
Needs nothing but Python; takes some minutes.
"""
import random
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "assets/demo_training"))
import data  # noqa: E402

MIXES = ["Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K"]
N_CALIBRATION = 8  # chunks of 512 tokens
N_EVALUATION = 24
N_BYTES = 64_000  # of each text


def chat_text(seed, taken):
    """Conversations without the questions in `taken`; adds theirs to it."""
    corpus, rng, text, own = data.Corpus(), random.Random(seed), "", set()
    while len(text) < N_BYTES:
        conversation = corpus.conversation(rng)
        questions = {question.strip().lower() for question, _ in conversation[1]}
        if questions & taken:
            continue
        own |= questions
        text += "".join(part for part, _ in data.segments(conversation))
    taken |= own
    return text


def main(build, scratch):
    build, scratch = Path(build).resolve(), Path(scratch)

    def run(program, *arguments):
        command = [str(build / program), *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=scratch).stdout

    def convert(name, *options):
        run("nemo-convert", ROOT / "assets/demo", name, "--force", *options)
        return (scratch / name).stat().st_size

    def predict(text, n_chunks):
        run("nemo-cli", "perplexity", "-m", "f32.gguf", "-f", f"{text}.txt", "--special", "--chunks", n_chunks,
            "--kl-base", f"{text}.base")

    def divergence(name, text):
        output = run("nemo-cli", "perplexity", "-m", name, "--kl", f"{text}.base")
        return float(re.search(r"KL divergence mean ([\d.e+-]+)", output)[1])

    def print_sensitivity(tensor):
        convert("one.gguf", "--type", "F32", "--tensor-type", f"{tensor}=Q4_0")
        errors = run("nemo-convert", "verify", "one.gguf", "--against", ROOT / "assets/demo")
        error = float(re.search(rf"^{re.escape(tensor)} +Q4_0 +([\d.e+-]+)$", errors, re.M)[1]) ** 2
        kl = divergence("one.gguf", "calibration")
        print(f"{tensor:32} {error:>18.6f} {kl:>10.6f} {kl / error:>11.4f}", flush=True)

    taken = set()
    (scratch / "calibration.txt").write_text(chat_text(1, taken))
    (scratch / "evaluation.txt").write_text(chat_text(2, taken))
    convert("f32.gguf", "--type", "F32")
    predict("calibration", N_CALIBRATION)
    predict("evaluation", N_EVALUATION)
    convert("q4_0.gguf", "--type", "Q4_0")
    for line in run("nemo-convert", "inspect", "q4_0.gguf").splitlines():
        if re.match(r"\S+\.weight +Q4_0", line):
            print_sensitivity(line.split()[0])
    print(run("nemo-cli", "imatrix", "-m", "f32.gguf", "-f", "calibration.txt", "--special", "-o", "demo.imatrix",
              "--sensitivity", N_CALIBRATION, "--force"))
    print(f"{'':8} {'bytes':>9} {'mix':>10} {'fit':>10} {'imatrix: mix':>13} {'fit':>10}")
    for mix in MIXES:
        values = []
        for importance in [], ["--imatrix", "demo.imatrix"]:
            n_bytes = convert("mix.gguf", "--type", mix, *importance)
            convert("fit.gguf", "--fit", n_bytes, *importance)
            values += [divergence("mix.gguf", "evaluation"), divergence("fit.gguf", "evaluation")]
        print(f"{mix:8} {n_bytes:>9} {values[0]:>10.6f} {values[1]:>10.6f} {values[2]:>13.6f} {values[3]:>10.6f}",
              flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
