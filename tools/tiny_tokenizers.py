"""The tokenizers of make_tiny_models.py: WordPiece, byte-level BPE and sentencepiece, trained on sentences made here.

Every function writes its files into `folder` and returns the ids a configuration needs: {"size": V, "pad": id, ...}.
"""
from __future__ import annotations

import io
import json
import os
import random

POSITIONS = 64
SEED = 20240611

WORDS = (
    "the a an of to in and is was for on with as by at from this that it not are be or have has one two three four "
    "good bad great poor small large quick slow red green blue white black old new happy sad bright dark warm cold "
    "cat dog bird horse man woman child boy girl tree river street house kitchen table window garden train car boat "
    "picture camera phone battery screen sound price quality product service food music film story book page letter "
    "runs walks sits stands eats sleeps reads writes plays looks works breaks costs sells buys takes gives makes sees "
    "running walking sitting standing reading writing playing looking working very really quite almost never always "
    "often near under over behind between before after until because however therefore although while when where who "
    "naïve café über señor 3.5 2024 100 42 e-mail don't it's"
).split()


def sentences(count: int = 1200) -> list[str]:
    """Random sentences over WORDS: enough text for the subword trainers, the same in every run."""
    source = random.Random(SEED)
    made = []
    for _ in range(count):
        words = [source.choice(WORDS) for _ in range(source.randint(4, 14))]
        if source.random() < 0.3:
            words[source.randrange(len(words))] += ","
        made.append(" ".join(words).capitalize() + source.choice(".!?."))
    return made


def write_json(folder: str, name: str, value) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False, indent=1)
        out.write("\n")


def wordpiece(folder: str, specials: dict[str, str], tokenizer_class: str) -> dict:
    """A lower-casing BERT vocabulary: special tokens, letters, ##letters, words and common endings."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import TemplateProcessing

    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
    endings = ["##ing", "##ed", "##er", "##ly", "##est"]
    plain = [w.replace("ï", "i").replace("é", "e").replace("ü", "u").replace("ñ", "n") for w in WORDS]
    words = sorted({w for w in plain if w.isalpha()})
    vocabulary = list(specials.values()) + letters + ["##" + c for c in letters if c.isalnum()] + endings
    vocabulary += [w for w in words if len(w) > 1]
    ids = {token: i for i, token in enumerate(vocabulary)}
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as out:
        out.write("".join(token + "\n" for token in vocabulary))
    fast = BertWordPieceTokenizer(
        vocab=ids, lowercase=True, unk_token=specials["unk_token"], sep_token=specials["sep_token"],
        cls_token=specials["cls_token"], pad_token=specials["pad_token"], mask_token=specials["mask_token"])
    cls, sep = specials["cls_token"], specials["sep_token"]
    pair = f"{cls} $A {sep} $B:1 {sep}:1" if cls == "[CLS]" else f"{cls} $A {sep} {sep} $B {sep}"
    fast._tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=[(cls, ids[cls]), (sep, ids[sep])])
    fast.save(os.path.join(folder, "tokenizer.json"))
    write_json(folder, "special_tokens_map.json", specials)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": tokenizer_class, "do_lower_case": True, "model_max_length": POSITIONS, **specials})
    return {"size": len(ids), **{name.split("_")[0]: ids[token] for name, token in specials.items()}}


BERT_SPECIALS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
                 "mask_token": "[MASK]"}
MPNET_SPECIALS = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "[UNK]",
                  "mask_token": "<mask>", "bos_token": "<s>", "eos_token": "</s>"}


def byte_bpe(folder: str, specials: list[str], tokenizer_class: str, template: str = "") -> dict:
    """A byte-level BPE of 400 tokens. template: "" none, "pair" as RoBERTa, or a TemplateProcessing string."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    if tokenizer_class == "Qwen2Tokenizer":
        pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                   r"|\s+(?!\S)|\s+")
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sentences(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    ids = tokenizer.get_vocab()
    if template == "pair":
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False)
    elif template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(t, ids[t]) for t in specials if t in template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    tokenizer.model.save(folder)  # vocab.json, merges.txt
    names = {"<s>": "bos_token", "</s>": "eos_token", "<unk>": "unk_token", "<pad>": "pad_token",
             "<mask>": "mask_token", "<|endoftext|>": "eos_token"}
    named = {names[token]: token for token in specials}
    if template == "pair":
        named.update(cls_token="<s>", sep_token="</s>")
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": tokenizer_class, "model_max_length": POSITIONS, "add_prefix_space": False, **named})
    return {"size": len(ids), **{name.split("_")[0]: ids[token] for name, token in named.items()}}


ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def sentencepiece_bytes(model_type: str, size: int, corpus: list[str] | None = None, **options) -> bytes:
    """A sentencepiece model trained on `corpus` (default: the shipped sentences)."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus or sentences()), model_writer=out, model_type=model_type, vocab_size=size,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    return out.getvalue()


def sentencepiece_files(folder: str, file_name: str, tokenizer_class: str, named: dict[str, str], model_type: str,
                        size: int, settings: dict | None = None, **options) -> dict:
    """One sentencepiece model as `file_name`; `named` maps pad_token, eos_token, ... to pieces."""
    import sentencepiece

    data = sentencepiece_bytes(model_type, size, **options)
    with open(os.path.join(folder, file_name), "wb") as out:
        out.write(data)
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": tokenizer_class, "model_max_length": POSITIONS, **(settings or {}), **named})
    return {"size": model.get_piece_size(), **{k.split("_")[0]: model.piece_to_id(v) for k, v in named.items()}}


def t5_tokenizer(folder: str, corpus: list[str] | None = None) -> dict:
    return sentencepiece_files(
        folder, "spiece.model", "T5Tokenizer", {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        "unigram", 320, settings={"extra_ids": 0}, corpus=corpus, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def albert_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "spiece.model", "AlbertTokenizer",
        {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "[CLS]", "sep_token": "[SEP]",
         "mask_token": "[MASK]", "bos_token": "[CLS]", "eos_token": "[SEP]"}, "unigram", 320,
        settings={"do_lower_case": True, "remove_space": True, "keep_accents": False}, pad_id=0, unk_id=1, bos_id=-1,
        eos_id=-1, control_symbols="[CLS],[SEP]", user_defined_symbols="[MASK]")


def deberta_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "spm.model", "DebertaV2Tokenizer",
        {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
         "mask_token": "[MASK]"}, "unigram", 320, settings={"do_lower_case": False}, pad_id=0, bos_id=1, eos_id=2,
        unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
        user_defined_symbols="[MASK]")


def llama_tokenizer(folder: str, tokenizer_class: str = "LlamaTokenizer") -> dict:
    return sentencepiece_files(
        folder, "tokenizer.model", tokenizer_class,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "bpe", 480,
        settings={"add_bos_token": True, "add_eos_token": False, "legacy": False}, unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, byte_fallback=True, normalization_rule_name="identity")


def gemma_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "tokenizer.model", "GemmaTokenizer",
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}, "bpe", 480,
        settings={"add_bos_token": True, "add_eos_token": False}, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        eos_piece="<eos>", bos_piece="<bos>", user_defined_symbols="<mask>", byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False)


def marian_tokenizer(folder: str) -> dict:
    """Two sentencepiece models and one vocabulary over both, </s> first and <pad> last, as published."""
    import sentencepiece

    data = sentencepiece_bytes("unigram", 320, pad_id=-1, bos_id=-1, eos_id=0, unk_id=1)
    for name in ("source.spm", "target.spm"):
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    ids = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    ids["<pad>"] = len(ids)
    write_json(folder, "vocab.json", ids)
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "en", "separate_vocabs": False,
        "model_max_length": POSITIONS, **named})
    return {"size": len(ids), "eos": 0, "unk": 1, "pad": ids["<pad>"]}
