#!/usr/bin/env python3
"""Writes tests/golden/entities.json: entities and their scores by seqeval, default and strict, on random tags, most of
which break their scheme."""
from __future__ import annotations

import json
import random
import warnings
from importlib.metadata import version
from pathlib import Path

from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Tokens

OUTPUT = Path(__file__).resolve().parents[1] / "entities.json"
SCHEMES = {"iob1": (IOB1, "BI"), "iob2": (IOB2, "BI"), "iobes": (IOBES, "BIES"), "bilou": (BILOU, "BILU")}
TYPES = ["PER", "LOC", "A-B", "-x"]


def drawn(rng, letters, types):
    tags = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in types] + (list(letters) if rng.random() < 0.2
        else [])
    return [rng.choice(tags) if rng.random() < 0.7 else "O" for _ in range(rng.randint(1, 9))]


def written(rng, name, types):
    """Tags of random entities as the scheme has them."""
    tags, before = [], None
    for _ in range(rng.randint(1, 5)):
        if rng.random() < 0.4:
            tags.append("O")
            before = None
            continue
        kind, length = rng.choice(types), rng.randint(1, 3)
        first, inside, last, single = {"iob1": "BIII" if before == kind else "IIII", "iob2": "BIIB", "iobes": "BIES",
                                       "bilou": "BILU"}[name]
        letters = [single if name in ("iobes", "bilou") else first] if length == 1 else [first] + [inside] * (length
            - 2) + [last]
        tags += [f"{letter}-{kind}" for letter in letters]
        before = kind
    return tags


def report(expected, predicted, **how):
    by_type = {kind: [row["precision"], row["recall"], row["f1-score"], int(row["support"])] for kind,
               row in classification_report(expected, predicted, output_dict=True, **how).items()
               if not kind.endswith(" avg")}
    return {"all": [precision_score(expected, predicted, **how), recall_score(expected, predicted, **how),
                    f1_score(expected, predicted, **how)], "by_type": by_type}


def main():
    rng = random.Random(20240817)
    cases, mixed = [], []
    for name, (scheme, letters) in SCHEMES.items():
        for number in range(16):
            types = TYPES[: 1 + number % 4]
            make = (lambda: drawn(rng, letters, types)) if number % 2 else (lambda: written(rng, name, types))
            expected = [make() for _ in range(rng.randint(1, 6))]
            predicted = [[tag if rng.random() < 0.75 else rng.choice(drawn(rng, letters, types)) for tag in tags]
                         for tags in expected]
            if number == 15:
                expected, predicted = [["O", "O"]], [["O", "O"]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case = {"scheme": name, "expected": expected, "predicted": predicted,
                        "accuracy": accuracy_score(expected, predicted),
                        "entities": [[[kind, begin, end + 1] for kind, begin, end in get_entities(tags)] for tags
                                     in predicted],
                        "strict_entities": [[[one.tag, one.start, one.end] for one in Tokens(tags, scheme).entities]
                                            for tags in predicted]}
                if number == 15:  # seqeval itself fails on no entities at all
                    case["default"] = case["strict"] = {"all": [0.0, 0.0, 0.0], "by_type": {}}
                else:
                    case["default"] = report(expected, predicted)
                    try:
                        case["strict"] = report(expected, predicted, mode="strict", scheme=scheme)
                    except ValueError:  # no entity on either side is written as the scheme has it
                        case["strict"] = {"all": [0.0, 0.0, 0.0], "by_type": {}}
            cases.append(case)
    for _ in range(60):  # letters of all schemes together
        tags = drawn(rng, "BIESLU", TYPES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixed.append({"tags": tags, "entities": [[kind, begin, end + 1] for kind, begin,
                                                     end in get_entities(tags)]})
    golden = {"made_with": {"seqeval": version("seqeval")}, "cases": cases, "mixed": mixed}
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":")).replace('{"scheme"', '\n{"scheme"').replace('{"tags"',
        '\n{"tags"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
