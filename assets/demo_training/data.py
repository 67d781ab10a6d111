"""Training conversations, written as short question and answer blocks in data/*.txt.

A block is a run of lines up to an empty line; lines that start with "# " are comments.
  Q: (hi|hello) [name]   one way to ask; (a|b|) picks one alternative, [name] is a table column
  A: Hello [name]!       the answer to the Q lines above it; more Q and A lines are later turns
  F: and [name]          optional second question about another row, answered by the same A
  W: 8                   optional weight; else every row counts, and a block with many wordings more
  T: name | other        header of a table whose rows follow; the block is used for each row
Questions are varied at random (case, punctuation, contractions, typos, politeness) and blocks are
strung together to conversations. Answers are always exact.
"""
import math
import random
import re
from pathlib import Path

DATA = Path(__file__).parent / "data"
# The part of all questions that comes from each file.
SHARES = {"nemo": 0.19, "chat": 0.21, "facts": 0.16, "tables": 0.26, "arithmetic": 0.07, "unknown": 0.11}
SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are a helpful assistant", "You are nemo, a helpful assistant.",
    "You are a friendly assistant.", "You are an AI assistant.", "Answer briefly.", "Be concise.",
    "You are a helpful and honest assistant. Answer in one sentence.", "You are a chatbot.",
    "Answer the user's questions.", "You are nemo.", "Be polite and friendly.", ""]
TURN_COUNTS = ((1, 0.55), (2, 0.25), (3, 0.12), (4, 0.08))
CONTRACTIONS = [("what is", "what's"), ("what is", "whats"), ("who is", "who's"), ("where is", "where's"),
                ("how is", "how's"), ("it is", "it's"), ("I am", "I'm"), ("I am", "im"), ("do not", "don't"),
                ("do not", "dont"), ("you are", "you're"), ("cannot", "can't"), ("that is", "that's"),
                ("are you", "are u"), ("can you", "can u"), ("how do I", "how do i"), ("how are", "how're"),
                ("going to", "gonna"), ("want to", "wanna"), ("please", "pls"), ("is not", "isn't")]
# The data is mostly lower case; people also write these words so.
PROPER = {word.lower(): word for word in (
    "GGUF Mamba Mamba-2 Nemotron Nemotron-H NVIDIA GPU CPU AI LLM LLMs BF16 F16 F32 FP16 FP32 Q8_0 Q4_0 Nemo Linux "
    "Debian Windows Mac Python Rust C++ Java ChatGPT GPT Siri Alexa Claude Gemini Llama Copilot Google Hugging Face "
    "English French German Spanish Italian Chinese Japanese Russian Arabic Hindi Earth Sun Moon Christmas Easter "
    "Monday Friday Sunday USA Everest China Columbus Hamlet DNA RAM OS IP TV CLI").split()}
PROPER_WORD = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, sorted(PROPER, key=len, reverse=True))) + r")(?![\w-])")
QUESTION = re.compile(r"(and|what|who|which|how|why|where|when|whom|do|does|did|is|are|can|could|will|would|am|may|must|"
                      r"should|at what|in which|on which|name the|whose)\b", re.I)
PREFIXES = ["hi, ", "hello, ", "hey, ", "hey nemo, ", "hi nemo, ", "nemo, ", "so ", "so, ", "ok, ", "okay, ",
            "well, ", "and ", "please tell me ", "tell me, ", "tell me ", "can you tell me ", "could you tell me ",
            "do you know ", "I want to know ", "I would like to know ", "quick question: ", "question: ", "sorry, ",
            "excuse me, ", "hello! ", "hi! ", "thanks. ", "please, ", "now ", "but "]
SUFFIXES = [" please", ", please", ", thanks", " nemo", ", nemo", " thanks", " then", " exactly", " now"]


class Block:
    def __init__(self, text):
        self.turns, self.follow_ups, self.rows = [], [], [{}]
        columns = weight = None
        for line in text.splitlines():
            key, _, value = line.partition(": ")
            if columns is not None:
                cells = [cell.strip() for cell in line.split(" | ")]
                if len(cells) != len(columns):
                    raise ValueError(f"{line!r} has {len(cells)} cells, the table has {len(columns)} columns")
                self.rows.append(dict(zip(columns, cells)))
            elif key == "Q":
                if not self.turns or self.turns[-1][1] is not None:
                    self.turns.append([[], None])
                self.turns[-1][0].append(value)
            elif key == "A":
                self.turns[-1][1] = value
            elif key == "F":
                self.follow_ups.append(value)
            elif key == "W":
                weight = float(value)
            elif key == "T":
                columns, self.rows = [column.strip() for column in value.split("|")], []
            else:
                raise ValueError(f"unknown line {line!r}")
        self.weights = [[math.sqrt(count_variants(q)) for q in questions] for questions, _ in self.turns]
        self.weight = weight or len(self.rows) + math.sqrt(sum(count_variants(q) for q in self.turns[0][0]))
        # At most one block about the user's name per conversation, or answers would contradict it.
        self.about_name = "my name" in text or "[name]" in text

    def sample(self, rng):
        """-> [(question, answer)], the questions still in their plain form."""
        row = rng.choice(self.rows)
        result = []
        for (questions, answer), weights in zip(self.turns, self.weights):
            question = rng.choices(questions, weights)[0]
            result.append((expand(question, row, rng), fill(answer, row)))
        if self.follow_ups and rng.random() < 0.25:
            other = rng.choice(self.rows)
            result.append((expand(rng.choice(self.follow_ups), other, rng), fill(self.turns[-1][1], other)))
        return result


def count_variants(question):
    return math.prod(group.count("|") + 1 for group in re.findall(r"\(([^()]*)\)", question))


def expand(question, row, rng):
    text = re.sub(r"\(([^()]*)\)", lambda m: rng.choice(m[1].split("|")), question)
    return " ".join(fill_columns(text, row).split())


def fill_columns(text, row):
    return re.sub(r"\[(\w+)\]", lambda m: row[m[1]], text)


def fill(answer, row):
    text = fill_columns(answer, row)
    return text[0].upper() + text[1:] if answer.startswith("[") else text


def typo(text, rng):
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if len(text) < 8 or not places:
        return text
    i = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1] + text[i] + text[i + 2:]
    if kind == 1:
        return text[:i] + text[i + 1:]
    if kind == 2:
        return text[:i] + text[i] + text[i:]
    return text[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1:]


def vary(text, rng):
    """One of the many ways in which people type the same question."""
    is_question = bool(QUESTION.match(text))
    if is_question and rng.random() < 0.15:
        text = rng.choice(PREFIXES) + text
    if is_question and rng.random() < 0.06:
        text += rng.choice(SUFFIXES)
    if rng.random() < 0.35:
        for full, short in rng.sample(CONTRACTIONS, len(CONTRACTIONS)):
            text = re.sub(rf"\b{full}\b", short, text)
    if rng.random() < 0.1:
        text = typo(text, rng)
    if rng.random() < 0.5:
        text = PROPER_WORD.sub(lambda m: PROPER[m[1]], text)
    case = rng.random()
    if case < 0.5:
        text = text[0].upper() + text[1:]
    elif case < 0.65:
        text = text.lower()
    elif case < 0.68:
        text = text.upper()
    if text[-1].isalnum():
        if is_question:
            text += rng.choices(["?", "", "??", " ?", ".", "?!"], [0.6, 0.3, 0.02, 0.03, 0.04, 0.01])[0]
        else:
            text += rng.choices([".", "", "!", "..."], [0.35, 0.45, 0.18, 0.02])[0]
    if rng.random() < 0.12:
        text += "\n"  # a piped prompt often ends in a newline
    return text


class Corpus:
    def __init__(self):
        self.files = {name: [Block(text) for text in read_blocks(DATA / f"{name}.txt")] for name in SHARES}

    def draw(self, rng, skip_names=False):
        name = rng.choices(list(SHARES), list(SHARES.values()))[0]
        while True:
            blocks = self.files[name]
            block = rng.choices(blocks, [b.weight for b in blocks])[0]
            if not (skip_names and block.about_name):
                return block

    def conversation(self, rng):
        """-> (system prompt or None, [(question, answer)])"""
        n_turns = rng.choices([n for n, _ in TURN_COUNTS], [p for _, p in TURN_COUNTS])[0]
        turns, named = [], False
        while len(turns) < n_turns:
            block = self.draw(rng, named)
            named |= block.about_name
            for i, turn in enumerate(block.sample(rng)):
                if i and block.about_name and rng.random() < 0.4:
                    turns += self.draw(rng, True).sample(rng)[:1]
                turns.append(turn)
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.25 else None
        return system, [(vary(question, rng), answer) for question, answer in turns]


def read_blocks(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return [block for block in re.split(r"\n\s*\n", "\n".join(lines).strip()) if block.strip()]


def segments(conversation):
    """The rendered conversation as [(text, is_answer)]; equal to chat_template.jinja without BOS."""
    system, turns = conversation
    parts = [(f"<|im_start|>system\n{system}<|im_end|>\n", False)] if system is not None else []
    for question, answer in turns:
        parts.append((f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", False))
        parts += [(f"{answer}<|im_end|>", True), ("\n", False)]
    return parts


if __name__ == "__main__":
    corpus, rng = Corpus(), random.Random(0)
    for _ in range(20):
        print("".join(text for text, _ in segments(corpus.conversation(rng))))
