#!/usr/bin/env python3
"""Makes tests/data/tokenizer: two tiny vocabularies and the ids that the reference libraries give.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    make_tokenizer_fixtures.py tests/data/tokenizer
"""
import json
import pathlib
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = [
    "Nemo is a small fish that reads long books about mixers, attention and memory.",
    "The quick brown fox jumps over the lazy dog, then the dog jumps over the fox.",
    "for (int i = 0; i < n; ++i) { sum += values[i]; }\n\treturn sum;  // done\n",
    "नमस्ते दुनिया, यह एक छोटा परीक्षण है।", "สวัสดีชาวโลก นี่คือการทดสอบ", "こんにちは世界、これはテストです。",
    "Привет, мир! Это маленькая проверка.", "你好,世界!这是一个小测试。", "the the the then there these those",
]
CASES = [
    "", " ", "  ", "\n", "a", "Hello world", " hello  world ", "the\n\n\tthe   ", "HTTPServer camelCase XMLHttp",
    "12345 1,000.50", "don't they'll I'M", "x = y // z;\n\n// next\r\n", "नमस्ते दुनिया", "สวัสดีชาวโลก", "你好世界 こんにちは",
    "e\u0301 \u0301 a\u0300\u0301b", "\U0001F468\u200d\U0001F469\u200d\U0001F467 \U0001F600\U0001F600!",
    "a\u00a0b\u3000c\u2003 d\u0085e\u180ef\u200bg", "\U00031350\U00031351 \U00010D50\U00010D70 \U0001D2C0", "\ufffd\ufffd",
    "<s>hello</s>", "<s", "s>", "<|im_start|>user\nhi<|im_end|>\n", "a  <mask>  b", "a  <strip> \n b", "word words word",
    "<think>ok</think>", "<|im<|im_end|>", "  <s>  ", "\x00\x01\x7f", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u2028para\u2029graph\x0b\x0c", "ﬁ ½ Ⅷ ² ५", "1\u0660\u0967",
]


def byte_level_bpe(folder):
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(TEKKEN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(CORPUS * 3, trainers.BpeTrainer(
        vocab_size=420, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.add_tokens([AddedToken("<strip>", rstrip=True), AddedToken("word", single_word=True),
                          AddedToken("<|im"), AddedToken("<think>"), AddedToken("</think>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A",
                                                             special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in CASES]
    write(folder / "bpe_cases.json", cases)


def sentencepiece_bpe(folder, name, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_prefix=str(folder / name), pad_id=-1,
        user_defined_symbols=["[TOOL]", "::"], control_symbols=["<|im_end|>"], minloglevel=2, **options)
    (folder / f"{name}.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.model"))
    cases = [{"text": text, "ids": processor.encode(text), "decoded": processor.decode(processor.encode(text))}
             for text in CASES]
    write(folder / f"{name}_cases.json", cases)


def write(path, cases):
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    byte_level_bpe(folder)
    sentencepiece_bpe(folder, "sp_bpe", model_type="bpe", vocab_size=512, byte_fallback=True,
                      normalization_rule_name="identity", remove_extra_whitespaces=False)
    sentencepiece_bpe(folder, "sp_unigram", model_type="unigram", vocab_size=300,
                      normalization_rule_name="nmt_nfkc", hard_vocab_limit=False)


if __name__ == "__main__":
    main()
