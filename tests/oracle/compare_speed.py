"""Speed of nemo-cli and llama-bench on the same files: runs by turns, nemo first and last.

Prints tokens per second of each run, the medians and their ratio, as rows of a table.

usage: compare_speed.py NEMO_CLI LLAMA_BENCH MODEL.gguf... [--prompt 512] [--tokens 64] [--threads 2]
                        [--rounds 2]
Needs nothing but Python, and an otherwise idle machine.
"""
import argparse
import csv
import io
import json
import os
import statistics
import subprocess

TESTS = ("prompt", "generation")


def output_of(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def shared_options(arguments, model):
    return ["-m", model, "-p", str(arguments.prompt), "-n", str(arguments.tokens),
            "-t", str(arguments.threads), "-r", "1"]


def nemo(arguments, model):
    """Tokens per second of each test."""
    command = [arguments.nemo_cli, "bench", *shared_options(arguments, model), "-o", "json"]
    results = json.loads(output_of(command))["results"]
    return dict(zip(TESTS, (result["tokens_per_second"] for result in results), strict=True))


def llama(arguments, model):
    """As `nemo`."""
    command = [arguments.llama_bench, *shared_options(arguments, model), "-o", "csv"]
    rows = csv.DictReader(io.StringIO(output_of(command)))
    return dict(zip(TESTS, (float(row["avg_ts"]) for row in rows), strict=True))


def cell(runs):
    return ", ".join(f"{speed:.3g}" for speed in runs)


def compare(arguments, model):
    ours, theirs = [nemo(arguments, model)], []
    for _ in range(arguments.rounds):
        theirs.append(llama(arguments, model))
        ours.append(nemo(arguments, model))
    cells = [os.path.basename(model)]
    for test in TESTS:
        runs = [[run[test] for run in side] for side in (ours, theirs)]
        ratio = statistics.median(runs[0]) / statistics.median(runs[1])
        cells += [cell(runs[0]), cell(runs[1]), f"{ratio:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nemo_cli")
    parser.add_argument("llama_bench")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    print(f"| file | {arguments.prompt}-token prompt: nemo | llama.cpp | ratio "
          "| generation: nemo | llama.cpp | ratio |\n|---|---|---|---|---|---|---|", flush=True)
    for model in arguments.models:
        compare(arguments, model)


if __name__ == "__main__":
    main()
