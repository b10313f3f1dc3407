"""Random folders of a sentencepiece model without tokenizer.json: kinds of models, classes, settings. Oracle:
AutoTokenizer of transformers, which gives the same ids and texts, or fails where we refuse.

    DEEPLORA_TOKENIZE=build/tests/deeplora_tokenize .venv/bin/python tests/python/test_tokenizer_folders.py [DRAWS
    [FIRST SEED]]
"""
import collections
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

try:
    import sentencepiece
    import transformers
    from transformers import AutoTokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
if transformers.__version__.split(".")[:2] != ["5", "23"]:  # which class a folder gets is a table of this version
    print(f"skipped: transformers {transformers.__version__}, not 5.23")
    sys.exit(77)

from hard_texts import HARD_TEXTS, mark_texts, random_texts

PROGRAM = os.environ.get("DEEPLORA_TOKENIZE", "")
DRAWS, FIRST = 150, 1
IDENTITY = {"normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False,
            "split_digits": True}
GEMMA = {"unk_id": 3, "bos_id": 2, "eos_id": 1, "pad_id": 0, "eos_piece": "<eos>", "bos_piece": "<bos>",
         "add_dummy_prefix": False,
         "user_defined_symbols": "<mask>,<start_of_turn>"}
KINDS = {
    "llama": {"model_type": "bpe", "vocab_size": 600, **IDENTITY},
    "characters replaced": {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True},
    "own tokens": {"model_type": "bpe", "vocab_size": 600, **IDENTITY, "user_defined_symbols": "[INST],<x>",
                   "control_symbols": "<ctl>"},
    "gemma": {"model_type": "bpe", "vocab_size": 600, **IDENTITY, **GEMMA},
    "no bytes": {"model_type": "bpe", "vocab_size": 300, "normalization_rule_name": "identity"},
    "no bos": {"model_type": "bpe", "vocab_size": 600, **IDENTITY, "bos_id": -1},
    "unigram": {"model_type": "unigram", "vocab_size": 300},
    "unigram with bytes": {"model_type": "unigram", "vocab_size": 500, "byte_fallback": True},
}
COMMON_TYPES = ["llama", "mistral", "mixtral", "gemma", "granite"]
TYPES = COMMON_TYPES + ["gemma2", "phi3", "stablelm", "olmo2", "internlm2", "starcoder2", "persimmon", "minicpm3",
                        "umt5", "nonsense", "deepseek_v3", "t5", "bert",
                        "qwen2", "gpt_neox", "code_llama", "xglm", "big_bird", None]
COMMON_CLASSES = ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast", None]
CLASSES = COMMON_CLASSES + ["PreTrainedTokenizerFast", "TokenizersBackend", "CodeLlamaTokenizer", "InternLM2Tokenizer",
                            "BaichuanTokenizer", "BigBirdTokenizer",
                            "XGLMTokenizer", "GPT2Tokenizer", "BertTokenizer", "ReformerTokenizer"]
TEXTS = [t for t in HARD_TEXTS if len(t) < 130][::3] + random_texts(12) + mark_texts(8)
TEXTS += ["<s>x </s> y[INST]z <x> <ctl>  <mask> w <pad><start_of_turn> a", "a", " a", "a</s>b", "<new> here<new>",
          "two  spaces and\nlines\n"]


def models():
    lines = (ROOT / "data/stsb-captions/train.tsv").read_text(encoding="utf-8").split("\n")[:400]
    corpus = [cell for line in lines for cell in line.split("\t")[2:4]]
    out = {}
    for name, options in KINDS.items():
        data = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=data,
                                                 hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
        out[name] = data.getvalue()
    return out


def some(rng, common, every):
    return rng.choice(common if rng.random() < 0.5 else every)


def token(rng, text):
    if rng.random() < 0.7:
        return text
    return {"__type": "AddedToken", "content": text, "lstrip": False, "rstrip": False, "normalized": rng.random() < 0.5,
            "single_word": False}


def draw(rng):
    """The name of a model, that of its file, and the other files of a folder."""
    config = {}
    name = some(rng, COMMON_CLASSES, CLASSES)
    if name:
        config["tokenizer_class"] = name
    if rng.random() < 0.5:
        config["legacy"] = rng.choice([True, False])
    for key in ("add_prefix_space", "add_bos_token", "add_eos_token"):
        if rng.random() < 0.35:
            config[key] = rng.choice([True, False])
    if rng.random() < 0.4:
        config.update({key: token(rng, text) for key, text in (("bos_token", "<s>"), ("eos_token", "</s>"),
                                                               ("unk_token", "<unk>"))})
    if rng.random() < 0.2:
        config["pad_token"] = rng.choice(["<pad>", "</s>", "<unk>"])
    if rng.random() < 0.3:
        contents = ["<unk>", "<s>", "</s>"]
        config["added_tokens_decoder"] = {str(i): {"content": text, "lstrip": False, "normalized": rng.random() < 0.3,
                                                   "rstrip": False, "single_word": False,
                                                   "special": True} for i, text in enumerate(contents)}
    if rng.random() < 0.1:
        config["additional_special_tokens"] = ["<x>", "<new>"]
    kind = some(rng, COMMON_TYPES, TYPES)
    model = {"model_type": kind} if kind else {}
    if rng.random() < 0.15:
        model["tokenizer_class"] = rng.choice(CLASSES[:4])
    files = {}
    if rng.random() < 0.85:
        files["tokenizer_config.json"] = config
    if rng.random() < 0.95:
        files["config.json"] = model
    if rng.random() < 0.15:
        files["special_tokens_map.json"] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if rng.random() < 0.05:
        files["added_tokens.json"] = {"<new>": 2000}
    return rng.choice(list(KINDS)), rng.choice(["tokenizer.model"] * 8 + ["spiece.model", "spm.model"]), files


def by_transformers(folder):
    """Ids and texts, or None where it fails."""
    try:
        reference = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        ids = [reference([text])["input_ids"][0] for text in TEXTS]
        return [{"ids": one, "decoded": reference.decode(one, skip_special_tokens=True),
                 "decoded_all": reference.decode(one)} for one in ids]
    except Exception:
        return None


def compare(seed, bytes_of, counts):
    """None, or how a folder differs."""
    kind, name, files = draw(random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(bytes_of[kind])
        for file, content in files.items():
            (Path(folder) / file).write_text(json.dumps(content))
        expected = by_transformers(folder)
        lines = [{"folder": folder}] + [{"text": text} for text in TEXTS]
        done = subprocess.run([PROGRAM], input="\n".join(json.dumps(line) for line in lines).encode(),
                              capture_output=True)
    first, *got = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    if "error" in first:
        counts["refused by both" if expected is None else "refused here"] += 1
        return None
    if expected is None:
        counts["read here alone"] += 1
        return None
    counts["equal"] += 1
    for text, ours, theirs in zip(TEXTS, got, expected):
        for key, wanted in theirs.items():
            if ours.get(key) != wanted:
                counts["equal"] -= 1
                counts["different"] += 1
                return seed, kind, name, files, key, text, ours.get(key, ours), wanted
    return None


class FoldersTest(unittest.TestCase):
    maxDiff = 4000

    def test_random_folders(self):
        counts, bytes_of = collections.Counter(), models()
        found = [compare(seed, bytes_of, counts) for seed in range(FIRST, FIRST + DRAWS)]
        print(", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)
        self.assertEqual([one for one in found if one][:3], [])
        self.assertGreater(counts["equal"], DRAWS // 3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        DRAWS = int(sys.argv.pop(1))
        FIRST = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 1
    unittest.main()
