"""Random tokenizers of all components of the tokenizers library, with random flags and added tokens, beside the library
itself.

    DEEPLORA_TOKENIZE=build/tests/deeplora_tokenize .venv/bin/python tests/python/test_tokenizer_pipelines.py [DRAWS
    [FIRST SEED]]
"""
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

try:
    import sentencepiece
    from tokenizers import Tokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

from hard_texts import HARD_TEXTS, mark_texts, random_texts

PROGRAM = os.environ.get("DEEPLORA_TOKENIZE", "")
DRAWS, FIRST, TEXTS = 300, 1, 60
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
         r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
EXPRESSIONS = [
    r"\s+", r"\p{L}+", r"\d{1,3}", r"[aeiou]", r"(?<=\w)(?=\W)", r"\b", r"[^\s\p{L}\p{N}]+", r"(?i:the|an?)",
    r"\w+|[^\w\s]+", r"x*", r".", r"(?:\r?\n)+",
    QWEN2, QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| "
    r"?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
    r"[\p{Han}\p{Hiragana}\p{Katakana}]+", r"\p{P}|\p{S}", r"[[:alpha:]]+", r"\P{L}", r"[\p{^L}]+", r"^\s|\s$",
    r"(a|b)\1", r"[\u4e00-\u9fa5]".replace("\\u4e00", "一").replace("\\u9fa5", "龥")]
TEXT_PATTERNS = [" ", "  ", "a", "th", "``", "▁", "é", "", ".", "\n", "[", "*", "a.b", "'"]
CONTENTS = ["<s>", "</s>", "[MASK]", "the", "The", "ab", "  ", "\n", "<|im_start|>", "é", "É", "ing", " a", "a b", "中",
            "ﬁ", "<0x41>", "[SEP]", "I", "n't", "##x", "▁", "s"]
MORE_TEXTS = ["The abbab thing the ing.", "a  b   c a b", "``quoted'' text's  end ",
              "<s>x </s> y[MASK] z <|im_start|>user\n", "ÉÉé the The tHE", "▁a ▁▁b",
              "中文 and 日本語 カタカナ ひらがな 한국어 ﬁne", "'s I'll don't WE'RE 12345 1,234.5", " lead", "trail ", "x", "ab",  # noqa: E501
              "aabb\r\n\r\nc\td"]


def corpus():
    lines = (ROOT / "data/stsb-captions/train.tsv").read_text(encoding="utf-8").split("\n")[:250]
    return [cell for line in lines for cell in line.split("\t")[2:4]] + MORE_TEXTS


def charsmap():
    """A real table of character replacements, out of a sentencepiece model."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "corpus.txt"
        text.write_text("\n".join(corpus()), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=str(Path(folder) / "m"), vocab_size=150,
                                                 minloglevel=2, num_threads=1,
                                                 normalization_rule_name="nmt_nfkc_cf" , model_type="unigram",
                                                 hard_vocab_limit=False)
        from sentencepiece import sentencepiece_model_pb2 as pb
        model = pb.ModelProto()
        model.ParseFromString((Path(folder) / "m.model").read_bytes())
        import base64
        return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


class Draw:
    """One tokenizer.json, all of it drawn from a seed."""

    def __init__(self, seed, lines, table):
        self.rng, self.lines, self.table = random.Random(seed), lines, table

    def flag(self, chance=0.5):
        return self.rng.random() < chance

    def some(self, make, most):
        parts = [make() for _ in range(self.rng.randint(1, most))]
        return parts[0] if len(parts) == 1 and self.flag() else parts

    def pattern(self):
        if self.flag():
            return {"Regex": self.rng.choice(EXPRESSIONS)}
        return {"String": self.rng.choice(TEXT_PATTERNS)}

    def normalizer(self):
        kind = (self.rng.choice("NFC NFD NFKC NFKD Lowercase Strip StripAccents Nmt Precompiled Replace Replace "
                                "Prepend BertNormalizer ByteLevel".split()))
        more = {}
        if kind == "Strip":
            more = {"strip_left": self.flag(), "strip_right": self.flag()}
        elif kind == "Precompiled":
            more = {"precompiled_charsmap": self.table}
        elif kind == "Replace":
            more = {"pattern": self.pattern(), "content": self.rng.choice(["", " ", "▁", "xy", "é"])}
        elif kind == "Prepend":
            more = {"prepend": self.rng.choice(["▁", " ", "ab"])}
        elif kind == "BertNormalizer":
            more = {"clean_text": self.flag(), "handle_chinese_chars": self.flag(),
                    "strip_accents": self.rng.choice([None, True, False]), "lowercase": self.flag()}
        return {"type": kind, **more}

    def metaspace(self):
        return {"type": "Metaspace", "replacement": self.rng.choice("▁▁▁_"),
                "prepend_scheme": self.rng.choice(["first", "always", "never"]), "split": self.flag()}

    def byte_level(self):
        return {"type": "ByteLevel", "add_prefix_space": self.flag(), "trim_offsets": self.flag(),
                "use_regex": self.flag()}

    def pre_tokenizer(self):
        kind = (self.rng.choice((
            "ByteLevel ByteLevel Metaspace Metaspace Whitespace WhitespaceSplit BertPreTokenizer Punctuation Digits "
            "Split Split Split "
                                "CharDelimiterSplit UnicodeScripts FixedLength").split()))
        if kind == "Metaspace":
            return self.metaspace()
        if kind == "ByteLevel":
            return self.byte_level()
        more = {}
        if kind == "Punctuation":
            more = {"behavior": self.rng.choice(BEHAVIORS)}
        elif kind == "Digits":
            more = {"individual_digits": self.flag()}
        elif kind == "Split":
            more = {"pattern": self.pattern(), "behavior": self.rng.choice(BEHAVIORS), "invert": self.flag(0.3)}
        elif kind == "CharDelimiterSplit":
            more = {"delimiter": self.rng.choice([" ", "a", "-", "é"])}
        elif kind == "FixedLength":
            more = {"length": self.rng.randint(1, 7)}
        return {"type": kind, **more}

    def decoder(self):
        kind = self.rng.choice("BPEDecoder ByteLevel WordPiece Metaspace CTC Replace Fuse Strip ByteFallback".split())
        if kind == "Metaspace":
            return self.metaspace()
        if kind == "ByteLevel":
            return self.byte_level()
        more = {"BPEDecoder": {"suffix": "</w>"}, "WordPiece": {"prefix": "##", "cleanup": self.flag()},
                "CTC": {"pad_token": "<s>", "word_delimiter_token": "a", "cleanup": self.flag()},
                "Replace": {"pattern": {"String": self.rng.choice(["▁", "a", " "])},
                            "content": self.rng.choice([" ", "", "x"])},
                "Strip": {"content": self.rng.choice(" a"), "start": self.rng.randint(0, 2), "stop": 0}}
        return {"type": kind, **more.get(kind, {})}

    def sequence(self, make, key, most, chance):
        if not self.flag(chance):
            return None
        parts = self.some(make, most)
        return parts if isinstance(parts, dict) else {"type": "Sequence", key: parts}

    def model(self, frame):
        """A vocabulary of what the drawn clean-up and splitters make of a few lines, and a model's flags."""
        kind = self.rng.choice(["BPE", "BPE", "WordPiece", "Unigram", "Unigram", "WordLevel"])
        pieces = self.pieces(frame)
        characters = collections.Counter(c for piece in pieces for c in piece)
        common = [c for c, _ in characters.most_common(self.rng.choice([40, 90, 200]))]
        if kind == "WordLevel":
            return {"type": kind, "vocab": self.numbered(["<unk>"] + [p for p, _ in pieces.most_common(150)]),
                    "unk_token": self.rng.choice(["<unk>"] * 9 + ["none"])}
        if kind == "WordPiece":
            prefix = self.rng.choice(["##", "##", "", "é"])
            cut = [p[:n] for p, _ in pieces.most_common(120) for n in (1, 2, 3, len(p))]
            rest = [prefix + p[n:] for p, _ in pieces.most_common(120) for n in (1, 2, 3) if n < len(p)]
            return {"type": kind, "unk_token": self.rng.choice(["<unk>"] * 9 + ["none"]),
                    "continuing_subword_prefix": prefix,
                    "max_input_chars_per_word": self.rng.choice([100, 100, 5, 20]),
                    "vocab": self.numbered(["<unk>"] + common + [prefix + c for c in common] + cut + rest)}
        if kind == "Unigram":
            parts = collections.Counter()
            for piece, count in pieces.items():
                for length in range(2, 8):
                    for start in range(0, max(1, len(piece) - length + 1)):
                        parts[piece[start:start + length]] += count * length
            vocab = [["<unk>", 0.0]] + [[c, -3 - 7 * self.rng.random()] for c in common if self.flag(0.95)]
            vocab += [[p, -2 - 9 * self.rng.random()] for p, _ in parts.most_common(300) if len(p) > 1]
            fallback = self.flag(0.3)
            if fallback and self.flag(0.9):
                vocab += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
            return {"type": kind, "unk_id": self.rng.choice([0] * 9 + [None, 3]), "vocab": vocab,
                    "byte_fallback": fallback}
        return self.bpe(pieces, common)

    def bpe(self, pieces, common):
        prefix = self.rng.choice([None] * 8 + ["", "##"])
        suffix = self.rng.choice([None] * 8 + ["", "</w>"])
        start = [c for c in common]
        if prefix:
            start += [prefix + c for c in common]
        if suffix:
            start += [c + suffix for c in start]
        words = {}
        for piece, count in pieces.most_common(300):
            symbols = [((prefix or "") if i else "") + c + ((suffix or "") if i == len(piece) - 1 else "") for i,
                       c in enumerate(piece)]
            if all(s in start for s in symbols):
                words[tuple(symbols)] = count
        merges, known = [], set(start)
        for _ in range(self.rng.choice([30, 120])):
            pairs = collections.Counter()
            for word, count in words.items():
                for a, b in zip(word, word[1:]):
                    pairs[a, b] += count
            if not pairs:
                break
            a, b = pairs.most_common(1)[0][0]
            joined = a + b[len(prefix or ""):]
            merges.append([a, b])
            known.add(joined)
            replaced = {}
            for word, count in words.items():
                out, i = [], 0
                while i < len(word):
                    two = i + 1 < len(word) and word[i] == a and word[i + 1] == b
                    out.append(joined if two else word[i])
                    i += 2 if two else 1
                replaced[tuple(out)] = replaced.get(tuple(out), 0) + count
            words = replaced
        if self.flag(0.3):
            self.rng.shuffle(merges)
        fallback = self.flag(0.3)
        extra = [f"<0x{b:02X}>" for b in range(256)] if fallback and self.flag(0.9) else []
        whole = [p for p, _ in pieces.most_common(20)]
        vocab = self.numbered(["<unk>"] + extra + sorted(known) + whole)
        return {"type": "BPE", "dropout": None, "unk_token": self.rng.choice(["<unk>", "<unk>", None]),
                "continuing_subword_prefix": prefix,
                "end_of_word_suffix": suffix, "fuse_unk": self.flag(), "byte_fallback": fallback,
                "ignore_merges": self.flag(0.3), "vocab": vocab,
                "merges": merges if self.flag() or any(" " in x for m in merges for x in m)
                else [" ".join(m) for m in merges]}

    def numbered(self, pieces):
        return {piece: i for i, piece in enumerate(dict.fromkeys(p for p in pieces if p))}

    def pieces(self, frame):
        """The pieces that the drawn clean-up and splitters make, as the library gives them: every piece is a token of a
        WordLevel model."""
        probe = Tokenizer.from_str(json.dumps({**frame, "added_tokens": [], "post_processor": None, "decoder": None,
                                               "model": {"type": "WordLevel", "vocab": {"<unk>": 0},
                                                         "unk_token": "<unk>"}}))
        out = collections.Counter()
        for line in self.rng.sample(self.lines, 60) + MORE_TEXTS:
            text = probe.normalizer.normalize_str(line) if probe.normalizer else line
            for piece, _ in (probe.pre_tokenizer.pre_tokenize_str(text) if probe.pre_tokenizer else [(text, None)]):
                if piece:
                    out[piece[:40]] += 1
        return out

    def post_processor(self, ids):
        kind = self.rng.choice([None, "BertProcessing", "RobertaProcessing", "TemplateProcessing", "ByteLevel",
                                "Sequence"])
        if kind is None or not ids:
            return None
        (a, first), (b, second) = self.rng.choice(ids), self.rng.choice(ids)
        layouts = {"BertProcessing": {"type": "BertProcessing", "sep": [a, first], "cls": [b, second]},
                   "RobertaProcessing": {"type": "RobertaProcessing", "sep": [a, first], "cls": [b, second],
                                         "trim_offsets": self.flag(), "add_prefix_space": self.flag()},
                   "TemplateProcessing": self.template(a, first, b, second), "ByteLevel": self.byte_level()}
        if kind != "Sequence":
            return layouts[kind]
        rest = layouts[self.rng.choice(["BertProcessing", "RobertaProcessing", "TemplateProcessing"])]
        parts = [self.byte_level(), rest] if self.flag(0.9) else [rest, rest]
        return {"type": "Sequence", "processors": parts}

    def template(self, a, first, b, second):
        def special(name):
            return {"SpecialToken": {"id": name, "type_id": self.rng.randint(0, 2)}}

        def text(name):
            return {"Sequence": {"id": name, "type_id": self.rng.randint(0, 1)}}

        single = [text("A")]
        pair = [text("A"), special(a), text("B")] if self.flag() else [text("B"), text("A")]
        for layout in (single, pair):
            if self.flag(0.7):
                layout.insert(0, special(b))
            if self.flag(0.7):
                layout.append(special(a))
        return {"type": "TemplateProcessing", "single": single, "pair": pair,
                "special_tokens": {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name,
                                   ids in ((a, [first]), (b, [second]))}}

    def added_tokens(self, model):
        vocab = model["vocab"] if isinstance(model["vocab"], dict) else {p: i for i,
            (p, _) in enumerate(model["vocab"])}
        out, next_id = [], len(model["vocab"])
        for content in self.rng.sample(CONTENTS, self.rng.choice([0, 0, 2, 5])):
            token_id = vocab.get(content)
            if token_id is None:
                token_id, next_id = next_id, next_id + 1
            out.append({"id": token_id, "content": content, "single_word": self.flag(0.2), "lstrip": self.flag(0.25),
                        "rstrip": self.flag(0.25),
                        "normalized": self.flag(), "special": self.flag()})
        return out, [(p, i) for p, i in list(vocab.items())[:5]] + [(t["content"], t["id"]) for t in out]

    def __call__(self):
        frame = {"version": "1.0", "truncation": None, "padding": None,
                 "normalizer": self.sequence(self.normalizer, "normalizers", 3, 0.7),
                 "pre_tokenizer": self.sequence(self.pre_tokenizer, "pretokenizers", 3, 0.85)}
        model = self.model(frame)
        added, ids = self.added_tokens(model)
        return {**frame, "added_tokens": added, "post_processor": self.post_processor(ids),
                "decoder": self.sequence(self.decoder, "decoders", 3, 0.8), "model": model}


def texts_for(rng, pool):
    texts = rng.sample(pool, TEXTS - 20) + rng.sample(MORE_TEXTS, 8)
    while len(texts) < TEXTS:
        text = rng.choice(pool)
        for _ in range(3):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(["", " ", "  "]) + rng.choice(CONTENTS) + rng.choice(["", " ", "  "]) + text[
                at:]
        texts.append(text)
    return texts


def by_library(reference, row, left):
    """What the library makes of a row, or None where it gives up."""
    reference.no_truncation()
    try:
        if row["max_length"]:
            reference.enable_truncation(row["max_length"], direction="left" if left else "right")
        got = reference.encode(row["text"]) if row["pair"] is None else reference.encode(row["text"], row["pair"])
        out = {"ids": got.ids, "type_ids": got.type_ids, "decoded": reference.decode(got.ids),
               "decoded_all": reference.decode(got.ids, skip_special_tokens=False)}
        if row["offsets"]:
            out["offsets"] = [list(one) for one in got.offsets]
        return out
    except BaseException as error:  # the library's panics are no Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


class Counts(collections.Counter):
    def __str__(self):
        return ", ".join(f"{value} {key}" for key, value in self.items())


def run(draws, first, counts):
    """Differences of `draws` tokenizers, as (seed, what, row, ours, theirs)."""
    lines, table = corpus(), charsmap()
    pool = [t for t in HARD_TEXTS + random_texts(300) + mark_texts(60) if len(t) < 400]
    different = []
    # The library's panics print; nobody needs to see them.
    with subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          encoding="utf-8") as program:
        def ask(row):
            program.stdin.write(json.dumps(row) + "\n")
            program.stdin.flush()
            answer = program.stdout.readline()
            assert answer, f"the program ends on {row} of seed {seed}"
            return json.loads(answer)

        for seed in range(first, first + draws):
            rng = random.Random(-seed)
            try:
                drawn = Draw(seed, lines, table)()
                reference = Tokenizer.from_str(json.dumps(drawn))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                counts["refused by the library"] += 1
                continue
            left = rng.random() < 0.4
            made = ask({"files": {"tokenizer.json": json.dumps(drawn),
                                  "tokenizer_config.json": json.dumps({"truncation_side": "left" if left
                                      else "right"})}})
            if "error" in made:
                counts["refused here"] += 1
                counts["refused here: " + made["error"].split("'")[0][:60]] += 1
                names = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "added token")
                if not any(name in made["error"] for name in names):
                    different.append((seed, "a refusal that names no component", None, made["error"], None))
                continue
            counts["tokenizers compared"] += 1
            texts = texts_for(rng, pool)
            for text in texts:
                row = {"text": text, "pair": rng.choice(texts) if rng.random() < 0.3 else None,
                       "max_length": rng.choice([0, 0, 0, 6, 11, 30]), "offsets": rng.random() < 0.5}
                theirs = by_library(reference, row, left)
                ours = ask(row)
                if theirs is None:
                    counts["texts the library gives up on"] += 1
                    continue
                # an expression that matches nothing at the beginning
                if "where the library loses track" in ours.get("error", ""):
                    counts["texts refused here"] += 1
                    continue
                counts["texts compared"] += 1
                for key, wanted in theirs.items():
                    if ours.get(key) != wanted:
                        different.append((seed, key, row, ours.get(key, ours.get("error")), wanted))
        program.stdin.close()
    return different


class PipelinesTest(unittest.TestCase):
    maxDiff = 4000

    def test_random_pipelines(self):
        counts = Counts()
        different = run(DRAWS, FIRST, counts)
        print(f"{counts}; {len(different)} differences", flush=True)
        self.assertGreater(counts["tokenizers compared"], DRAWS // 2)
        self.assertEqual(different[:3], [], f"{len(different)} differences")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        DRAWS = int(sys.argv.pop(1))
        FIRST = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 1
    unittest.main()
