#!/usr/bin/env python3
"""Writes tests/golden/text_metrics.json: BLEU and chrF of sacrebleu, ROUGE of rouge-score, on seeded and awkward
texts."""

import json
import random
from importlib.metadata import version
from pathlib import Path

import sacrebleu
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

OUTPUT = Path(__file__).resolve().parents[1] / "text_metrics.json"
WORDS = ("the The a near river , . ... café naïve Straße 3.14 1,000 -5 10-20 well-known don't \"quoted\" (both) "
         "x/y 50% £12.50 &amp; &lt;b&gt; e.g. U.S. 中文 привет 😀 end. yes, no; rating: low high family friendly").split()  # noqa: E501
TEXTS = ["", " ", "Hello, world!", "It's 3.14, not 1,000.5 -- ok?", "a.b,c 1.2 3,4 .5 6. ,7", "10-20 a-b 5- -5",
         "&quot;x&quot; &amp;lt; &gt;",
         "line\nbreak hy-\nphen <skipped> end\n", "tab\tand\u00a0no-break\u2003space\u3000", "[x]{y}|z~`^_\\@#$%^*+=",
         "Ünïcödé, «quotes» – dash…",
         "1.a a.1 ,,, ...", "'single' it's", "\x1c sep \x85 next", "U+212A: \u212a \u0130stanbul"]


def corpora():
    generator = random.Random(20240612)

    def text(length):
        return " ".join(generator.choice(WORDS) for _ in range(length))

    def changed(line):
        words = [generator.choice(WORDS) if generator.random() < 0.25 else word for word in line.split(" ")]
        return " ".join(words[:generator.randint(1, len(words))] if generator.random() < 0.3 else words)

    long = [text(generator.randint(5, 25)) for _ in range(40)]
    cases = {
        "one reference": ([changed(line) for line in long], [[line] for line in long]),
        "one to four references": ([changed(line) for line in long[:20]],
                                   [[changed(line) for _ in range(1 + i % 4)] for i, line in enumerate(long[:20])]),
        "equal": (long[:5], [[line] for line in long[:5]]),
        "no match": (["alpha beta gamma delta epsilon"], [["one two three four five"]]),
        "too short for 4-grams": (["a b", "c"], [["a b"], ["c"]]),
        "no 3-gram matches": (["a b x c d y e"], [["a b c d e f g"]]),
        "empty prediction": ([""], [["something here to match"]]),
        "empty among others": (["", long[0]], [[long[1]], [changed(long[0])]]),
        "empty reference": (["some words are here"], [[""]]),
        "much shorter": (["the quick brown fox"], [["the quick brown fox jumps over the lazy dog and runs away"]]),
        "two references equally near": (["a b c d e f"], [["a b c d e f g h", "a b c d"]]),
        "repeated words": (["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]),
        "other scripts": (["Я люблю кошек и собак очень сильно", "我喜欢猫"], [["Я очень люблю кошек и собак"], ["我很喜欢猫"]]),  # noqa: E501
        "awkward texts": (TEXTS, [[other] for other in TEXTS[1:] + TEXTS[:1]]),
        "case differs": (["The Cat Sat On The Mat"], [["the cat sat on the mat"]]),
    }
    return cases


def scores(predicted, references):
    # sacrebleu wants one list per reference position; None stands where a text has fewer.
    width = max(len(row) for row in references)
    streams = [[row[i] if i < len(row) else None for row in references] for i in range(width)]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rouge = [scorer.score_multi(row, text) for text, row in zip(predicted, references)]
    out = {"bleu": sacrebleu.BLEU().corpus_score(predicted, streams).score,
           "chrf": sacrebleu.CHRF().corpus_score(predicted, streams).score}
    for name in ("rouge1", "rouge2", "rougeL"):
        out[name] = sum(row[name].fmeasure for row in rouge) / len(rouge)
    return out


def main():
    tokenizer = Tokenizer13a()
    golden = {"made_with": {"sacrebleu": sacrebleu.__version__, "rouge-score": version("rouge-score")},
              "tokens": [[text, tokenizer(text.rstrip())] for text in TEXTS],
              "corpora": [{"name": name, "predicted": predicted, "references": references, "scores": scores(predicted,
                  references)}
                          for name, (predicted, references) in corpora().items()]}
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False).replace('{"name"', '\n{"name"')
                      + "\n", "utf-8")


if __name__ == "__main__":
    main()
