"""What decoding keeps of its speed while another program computes on one of the cores.

Runs of nemo-cli bench by turns: the machine idle, then with a process that never waits, pinned to the
last of the cores. Prints tokens per second of each run, the medians and their ratio.

usage: decode_under_load.py NEMO_CLI MODEL.gguf [--threads 2] [--tokens 32] [--rounds 3]
Needs nothing but Python, and an otherwise idle machine.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True:\n    pass"


def tokens_per_second(arguments):
    command = [arguments.nemo_cli, "bench", "-m", arguments.model, "-t", str(arguments.threads),
               "-p", "0", "-n", str(arguments.tokens), "-r", "1", "-o", "json"]
    done = subprocess.run(command, check=True, capture_output=True)
    return json.loads(done.stdout)["results"][0]["tokens_per_second"]


def under_load(arguments, core):
    busy = subprocess.Popen([sys.executable, "-c", BUSY, str(core)])
    try:
        return tokens_per_second(arguments)
    finally:
        busy.kill()
        busy.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nemo_cli")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    idle, loaded = [], []
    for _ in range(arguments.rounds):
        idle.append(tokens_per_second(arguments))
        loaded.append(under_load(arguments, core))
        print(f"idle {idle[-1]:.2f}, beside a busy process on core {core} {loaded[-1]:.2f} tokens/s",
              flush=True)
    ratio = statistics.median(loaded) / statistics.median(idle)
    print(f"medians {statistics.median(idle):.2f} and {statistics.median(loaded):.2f}: "
          f"{100 * ratio:.0f} % kept")


if __name__ == "__main__":
    main()
