#!/usr/bin/env python3
"""Seconds to encode rows of the sentiment data with WordPiece, byte-level BPE and Unigram, beside the tokenizers
library's encode_batch.

    python tools/bench/tokenizers_vs_reference.py --program build/tests/deeplora_tokenize [--rows 100000] [--threads 2]
    [--repeat 3]

Both encode the same texts with as many threads, and their token counts must be equal. The best of `--repeat` runs
counts; a ratio above 1 means that deeplora is faster. The models are trained here, on the texts themselves, with
vocabularies of published size where the texts give that many pieces.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def sentences(count):
    """Column 3 of every line of the shipped data, over and over with changing ends, so that no two rows are the
    same."""
    lines = []
    for file in sorted((ROOT / "data/sentiment-amazon").glob("*.tsv")):
        lines += [line.split("\t")[2] for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    return [f"{lines[i % len(lines)]} {lines[(i * 7 + i // len(lines)) % len(lines)]}" for i in range(count)]


def models(texts):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    some = texts[:5000]
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer, wordpiece.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    wordpiece.train_from_iterator(some, trainers.WordPieceTrainer(vocab_size=30000, special_tokens=["[PAD]", "[UNK]",
        "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "WordPiece (BERT)", wordpiece
    start = pre_tokenizers.ByteLevel.alphabet()
    qwen = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
            r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    splitters = {"byte-level BPE (GPT-2)": pre_tokenizers.ByteLevel(add_prefix_space=False)}
    for name, pattern in (("byte-level BPE (Qwen 2)", qwen), ("the same by the general machine", f"(?:{qwen})")):
        splitters[name] = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    for name, splitter in splitters.items():
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer, bpe.decoder = splitter, decoders.ByteLevel()
        bpe.train_from_iterator(some, trainers.BpeTrainer(vocab_size=30000, initial_alphabet=start,
                                                          show_progress=False))
        yield name, bpe
    unigram = Tokenizer(models.Unigram())
    unigram.normalizer, unigram.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    unigram.train_from_iterator(some, trainers.UnigramTrainer(vocab_size=16000, unk_token="<unk>",
                                                              special_tokens=["<unk>"], show_progress=False))
    yield "Unigram (T5)", unigram


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/tests/deeplora_tokenize")
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    texts = sentences(options.rows)
    rows = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    slower = 0
    print(f"{options.rows} rows, {options.threads} threads, best of {options.repeat}, seconds")
    for name, reference in models(texts):
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as folder:
            reference.save(str(pathlib.Path(folder) / "tokenizer.json"))
            for _ in range(options.repeat):
                start = time.perf_counter()
                encodings = reference.encode_batch(texts)
                theirs.append(time.perf_counter() - start)
                tokens = sum(len(one.ids) for one in encodings)
                del encodings
                done = subprocess.run([options.program, folder, str(options.threads)], input=rows, capture_output=True,
                                      check=True)
                got = json.loads(done.stdout)
                ours.append(got["seconds"])
                assert got["tokens"] == tokens, (name, got["tokens"], tokens)
        ratio = min(theirs) / min(ours)
        slower += ratio < 1
        print(f"{name:40} deeplora {min(ours):6.2f}   tokenizers {min(theirs):6.2f}   ratio {ratio:5.2f}", flush=True)
    return slower


if __name__ == "__main__":
    sys.exit(main())
