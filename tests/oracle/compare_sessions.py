"""What it costs to go on with a long chat: nemo-cli chat beside llama-server, same file.

Both programs hold the same conversation: a long first message, then one action after the other. For
each action: tokens that were reused and read, and the seconds until the first token of the answer.

usage: compare_sessions.py NEMO_CLI LLAMA_SERVER MODEL.gguf [--tokens 8192] [--threads 2]
       (LLAMA_SERVER "-": nemo alone)
Needs nothing but Python. The model's weights may be random: answers are cut after 8 tokens.
"""
import argparse
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request

N_ANSWER = 8
PORT = 18080
WORDS = "the model reads a long text once and keeps what it needs to go on from there ".split()
QUESTION, EDITED, ON_BRANCH = "What was said first?", "Who said that?", "And then what happened?"
ACTIONS = ["first message", "next turn", "regenerate", "edit of the last message",
           "next turn on the first branch", "thinking off, regenerate", "restart, next turn"]


def long_text(n_words):
    return " ".join(f"{WORDS[i % len(WORDS)]}{i % 97}" for i in range(n_words))


class Nemo:
    STATISTICS = re.compile(rb"reused (\d+), read (\d+) in ([\d.]+) s")

    def __init__(self, program, model, threads, folder):
        self.command = [program, "chat", "-m", model, "-t", str(threads), "-n", str(N_ANSWER),
                        "--temp", "0", "-v", "--think", "on"]
        self.environment = dict(os.environ, HOME=folder, XDG_DATA_HOME=folder + "/data",
                                XDG_CACHE_HOME=folder + "/cache", XDG_STATE_HOME=folder + "/state")

    def run(self, lines, arguments=()):
        done = subprocess.run(self.command + list(arguments), env=self.environment, check=True,
                              input=("\n".join(lines) + "\n").encode(), capture_output=True)
        return [(int(a), int(b), float(c)) for a, b, c in self.STATISTICS.findall(done.stderr)]

    def measure(self, text):
        # Messages are numbered in the order of their making: 1 and 2 are the first exchange, 3 the
        # question, 4 and 5 its answers, 6 and 7 the edited question and its answer.
        lines = [text, QUESTION, "/regen", f"/edit 2 {EDITED}", "/branch 5", ON_BRANCH,
                 "/think off", "/regen"]
        return self.run(lines) + self.run([QUESTION], ["--continue"])


class LlamaServer:
    def __init__(self, program, model, threads):
        self.command = [program, "-m", model, "-t", str(threads), "-np", "1", "--jinja",
                        "-c", "32768", "--port", str(PORT), "--no-webui"]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).read()
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit("the server does not answer")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def answer(self, messages, thinking=True):
        body = {"messages": messages, "max_tokens": N_ANSWER, "temperature": 0,
                "cache_prompt": True, "chat_template_kwargs": {"enable_thinking": thinking},
                # The server refuses what random weights write otherwise.
                "grammar": "root ::= [a-z ]+"}
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/chat/completions",
                                         json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        reply = json.load(urllib.request.urlopen(request, timeout=3600))
        t = reply["timings"]
        message = reply["choices"][0]["message"]
        content = message.get("content") or ""
        return (t["cache_n"], t["prompt_n"], t["prompt_ms"] / 1e3), content

    def measure(self, text):
        def user(content):
            return {"role": "user", "content": content}

        def assistant(content):
            return {"role": "assistant", "content": content}

        rows = []
        self.start()
        row, first = self.answer([user(text)])
        rows.append(row)
        history = [user(text), assistant(first)]
        row, _ = self.answer(history + [user(QUESTION)])
        rows.append(row)
        row, second = self.answer(history + [user(QUESTION)])
        rows.append(row)
        row, _ = self.answer(history + [user(EDITED)])
        rows.append(row)
        branch = history + [user(QUESTION), assistant(second), user(ON_BRANCH)]
        row, _ = self.answer(branch)
        rows.append(row)
        row, last = self.answer(branch, thinking=False)
        rows.append(row)
        self.stop()
        self.start()
        row, _ = self.answer(branch + [assistant(last), user(QUESTION)], thinking=False)
        rows.append(row)
        self.stop()
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nemo_cli")
    parser.add_argument("llama_server")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    counted = subprocess.run([options.nemo_cli, "tokenize", "-m", options.model, "-p",
                              long_text(500)], capture_output=True, text=True, check=True)
    text = long_text(500 * options.tokens // len(re.findall(r"\d+", counted.stdout)))
    with tempfile.TemporaryDirectory() as folder:
        nemo = Nemo(options.nemo_cli, options.model, options.threads, folder).measure(text)
    empty = [None] * len(ACTIONS)
    peer = empty if options.llama_server == "-" else \
        LlamaServer(options.llama_server, options.model, options.threads).measure(text)
    print("| action | nemo: reused | read | seconds | llama-server: reused | read | seconds |")
    print("|---|---|---|---|---|---|---|")
    for action, ours, theirs in zip(ACTIONS, nemo, peer):
        cells = [f"{row[0]} | {row[1]} | {row[2]:.2f}" if row else "| |" for row in (ours, theirs)]
        print(f"| {action} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
