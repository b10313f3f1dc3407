"""Oracle: PyYAML under the documented rules (yaml_reader.py). Random files and overrides read the same in both, or both
refuse them."""

import json
import math
import os
import random
import subprocess
import sys
import unittest
from pathlib import Path

try:
    import yaml
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).parent))
import yaml_reader

HELPER = os.environ["DEEPLORA_BASE_HELPER"]
CASES = int(os.environ.get("DEEPLORA_CONFIG_CASES", "1500"))
LEAVES = {"flag": "flag", "whole": "whole", "maybe": "maybe whole", "number": "number", "text": "text", "path": "path",
          "wholes": "wholes",
          "numbers": "numbers", "texts": "texts", "header": "auto|yes|no", "generate": "false|test|true",
          "solver": "bayes|als"}
KEYS = {**LEAVES, **{f"one.{key}": kind for key, kind in LEAVES.items()}, **{f"one.two.{key}": kind for key,
    kind in LEAVES.items()},
        "runs.*.text": "text", "runs.*.whole": "whole", "runs.*.numbers": "numbers"}

WHOLES = ["3", "+3", "-0", "-17", "0x1F", "-0xff", "0", "1e3", "1E+3", "5.", "1200", "9007199254740993",
          "9223372036854775807", "-9223372036854775808", "30e-1", "7.0"]
REALS = WHOLES + ["1e-3", "2.5", ".5", "-.5", "1e-310", "1e-320", "5e-324", ".inf", "-.inf", "+.inf", ".Inf", ".nan",
                  ".NaN", "0.1", "1.7976931348623157e308", "12e-1", "0e-999"]
NO_NUMBERS = ["010", "08", "-01", "00.5", "1_000", "1e400", "-1e400", "1e-400", "inf", "nan", "-.nan", "0o17", "0b11",
              "1:30", "0x", "1e", "e5", ".", "9223372036854775808",
              "9007199254740993.0", "1e300"]
NUMBERS = REALS + NO_NUMBERS
WORDS = ["word", "two words", "żółć", "日本語", "🙂", "a#b", "a:b", "./data/x.jsonl", "2024-01-01", "12:30:45", "re:a.b",  # noqa: E501
         "-x", "None", "bayes", "als", "auto", "test", "=",
         "1.2.3", "0x1G", "x" * 130]
FLAGS = ["true", "false", "True", "FALSE", "yes", "No", "ON", "off", "y", "N"]
NO_FLAGS = ["tRue", "yEs", "1", "truth"]
NOTHING = ["", "~", "null", "Null", "NULL"]
QUOTED = ['"3"', "'1e-3'", "'null'", '"NULL"', "'~'", "''", '""', "'yes'", '"no"', '"# no comment"', "'it''s'",
          '"tab\\t, line\\n, \\u00e9 \\x41"', "'a: b'", "'- x'", "'{a}'",
          "' blanks '", '"\\\\"', "'010'", "'train.lr'", '"🙂"', "'.inf'", "'&a'", "'*a'", "'!x'", "'%'", "'@'", "'`'",
          "'|'", "'>'", "'?'", "'[1]'"]
ODD_SETTINGS = ["#1", "a #b", "a: b", "- x", "[1, 2]", "[a, 'b']", "[0.5, 1e-3]", "{whole: 3}", "{}", "[]",
                "[{text: x}]", "&a 3", "[&a 1, *a]", "'x' # y", " 7 ", "1 # 2",
                "{two.whole: 4}", "[1, [2]]", "[1, 2", "'x", "*a", "!!str 3", "{<<: {whole: 1}}",
                "{whole: 1, whole: 2}", "--- 1", "1\n---\n2", "{text: NULL}", "[a, null]"]


class Draw:
    """One random configuration as text."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.anchors = {}  # name -> what kind of value it marks

    def scalar(self, kind):
        pools = {"flag": FLAGS, "whole": WHOLES, "maybe whole": WHOLES, "number": REALS, "text": WORDS, "path": WORDS}
        pool = pools.get(kind, kind.split("|") + [word for words, flags in (("yes", FLAGS), ("true", FLAGS)) if words
                                                  in kind.split("|") for word in flags])
        if self.random.random() < 0.04:
            pool = self.random.choice([NUMBERS, NO_NUMBERS, WORDS, NO_FLAGS, NOTHING, QUOTED])
        elif kind in ("text", "path") and self.random.random() < 0.4:
            pool = QUOTED + NUMBERS
        return self.random.choice(pool)

    def marked(self, text, kind):
        """The value with an anchor now and then, or an alias to an earlier one."""
        fitting = [name for name, of in self.anchors.items() if of == kind]
        if fitting and self.random.random() < 0.3:
            return "*" + self.random.choice(fitting)
        if text and self.random.random() < 0.15:
            name = f"a{len(self.anchors)}"
            self.anchors[name] = kind
            return f"&{name} {text}"
        return text

    def value(self, kind):
        if kind.endswith("s") and kind in yaml_reader.DEFAULTS and self.random.random() < 0.8:
            items = [self.marked(self.scalar(kind[:-1]), kind[:-1]) for _ in range(self.random.randrange(4))]
            # In brackets a plain text may hold no comma or bracket, and nothing between two commas is no value.
            items = [item if item and not set(item) & set(",[]{}") or item[:1] in "'\"" and item else "'-'" for item
                     in items]
            return self.marked("[" + ", ".join(items) + "]", kind)
        return self.marked(self.scalar(kind.removesuffix("s") if kind in yaml_reader.DEFAULTS else kind), kind)

    def entries(self, prefix, indent):
        lines, pad = [], "  " * indent
        keys = self.random.sample(sorted(LEAVES), self.random.randrange(1, 6))
        for key in keys:
            lines.append(f"{pad}{key}: {self.value(LEAVES[key])}".rstrip()
                         + self.random.choice(["", "", "  # a comment"]))
        deeper = {"": "one", "one": "two"}.get(prefix)
        if deeper and self.random.random() < 0.7:
            lines += self.section(deeper, indent)
        if deeper and self.random.random() < 0.25:
            path = self.random.choice([key for key in KEYS if key.startswith("one." if not prefix
                else "one.two.")]).removeprefix(prefix + "." if prefix else "")
            kind = LEAVES[path.split(".")[-1]]
            lines.append(f"{pad}{path}: {self.value(kind)}".rstrip())
        if self.random.random() < 0.03:
            lines.append(pad + self.random.choice(["unknown: 1", "<<: {whole: 1}", "whole: 1\n" + pad + "whole: 2",
                                                   "'one.whole': 5", "a..b: 1", "one.: 2", "'': 3", "? [a]\n" + pad
                                                   + ": 1"]))
        if not any(" *" in line for line in lines):  # an alias comes after its anchor
            self.random.shuffle(lines)
        return lines

    def section(self, name, indent):
        pad = "  " * indent
        same = [anchor for anchor, of in self.anchors.items() if of == "map " + name]
        if same and self.random.random() < 0.3:
            return [f"{pad}{name}: *{self.random.choice(same)}"]
        if self.random.random() < 0.25:
            keys = self.random.sample(["whole", "number", "flag"], 2)
            return [f"{pad}{name}: {{" + ", ".join(f"{key}: {self.scalar(LEAVES[key]) or 1}" for key in keys) + "}"]
        return [f"{pad}{name}:" + "\n" + "\n".join(self.entries(name, indent + 1))]

    def runs(self):
        items = []
        for _ in range(self.random.randrange(1, 4)):
            if "run" in self.anchors.values() and self.random.random() < 0.4:
                items.append("  - *" + next(name for name, of in self.anchors.items() if of == "run"))
                continue
            name = f"a{len(self.anchors)}"
            self.anchors[name] = "run"
            items.append(f"  - &{name}\n    text: {self.scalar('text')}\n    whole: {self.random.randrange(9)}\n    "
                         f"numbers: [1, 2.5]")
        return ["runs:\n" + "\n".join(items)]

    def text(self):
        lines = self.entries("", 0)
        if self.random.random() < 0.5:
            lines += self.runs()
        text = "\n".join(lines) + "\n"
        if self.random.random() < 0.03:
            text = self.random.choice(["---\n" + text, text + "---\nwhole: 1\n", text + "...\n", "\ufeff" + text,
                                       "%YAML 1.2\n---\n" + text, text.replace("\n", "\r\n"), "", "# none\n"])
        return text

    def sets(self):
        out = []
        for _ in range(self.random.choice([0, 0, 1, 2, 4])):
            path = self.random.choice(sorted(KEYS)).replace("*", str(self.random.randrange(3)))
            kind = LEAVES[path.split(".")[-1]]
            odd = self.random.random()
            if odd < 0.15:
                path = self.random.choice(["one", "runs", "runs.0", "one.two", "wholes.0", "numbers.1", "texts.0",
                                           "runs.01.whole", "one..whole", "new"])
                value = self.random.choice(ODD_SETTINGS)
            elif odd < 0.25 or odd < 0.6 and kind in ("text", "path", "texts", "wholes", "numbers"):
                value = self.random.choice(ODD_SETTINGS)
            else:
                value = self.scalar(kind.removesuffix("s") if kind in yaml_reader.DEFAULTS else kind)
            out.append(f"{path}={value}")
        return out


def answers(cases):
    lines = "".join(json.dumps({"yaml": text, "sets": sets, "keys": KEYS}) + "\n" for text, sets in cases)
    done = subprocess.run([HELPER, "config"], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def same(ours, theirs):
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs))
    both_nan = isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours) and math.isnan(theirs)
    return both_nan or type(ours) is type(theirs) and ours == theirs


class ConfigTest(unittest.TestCase):
    def test_random_configurations_read_as_pyyaml_reads_them_or_are_refused_by_both(self):
        cases = [(draw.text(), draw.sets()) for draw in map(Draw, range(CASES))]
        read, refused = 0, 0
        for (text, sets), answer in zip(cases, answers(cases)):
            with self.subTest(text=text, sets=sets, answer=answer):
                try:
                    expected = yaml_reader.read(text, sets, KEYS)
                except yaml_reader.Refused as why:
                    self.assertIn("error", answer, f"the other reader refuses: {why}")
                    refused += 1
                    continue
                self.assertIn("dump", answer, f"the other reader finds {expected}")
                found = yaml_reader.read(answer["dump"], [], KEYS)
                for path in expected:
                    self.assertTrue(same(found[path], expected[path]),
                                    f"{path}: {found[path]!r}, expected {expected[path]!r}")
                read += 1
        self.assertGreater(read, CASES / 4)
        self.assertGreater(refused, CASES / 20)

    def test_what_is_printed_is_text_to_other_readers_where_it_is_text_to_us(self):
        texts = WORDS + FLAGS + NUMBERS + NOTHING[1:] + ["", "<<", "a: b", "#1", " x ", "line\nbreak", "\t", "'", '"',
                                                         "- x", "? x", "é\u0085x", "a\u2028b", "\ufeffx", "1_0", "+1:2",
                                                         "0o7", "\\"]
        cases = [("", [f"text={json.dumps(text, ensure_ascii=False)}",
                       f"texts=[{json.dumps(text, ensure_ascii=False)}]"]) for text in texts]
        for text, answer in zip(texts, answers(cases)):
            with self.subTest(text=text, answer=answer):
                found = yaml.safe_load(answer["dump"])
                self.assertEqual(found["text"], text)
                self.assertEqual(found["texts"], [text])


if __name__ == "__main__":
    unittest.main()
