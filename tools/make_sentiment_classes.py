#!/usr/bin/env python3
"""Turns the shipped review sentiment (scores from -4 to 4) into three classes for configs/few_shot.yaml and configs/compare/few_shot_contrastive.yaml.

  make_sentiment_classes.py OUT_DIR [--rows 8 16 64] [--seed 1]

Writes train-N.csv with N rows of each class (negative below 0, neutral 0, positive above 0; all there are where a class has fewer: 43 rows are neutral),
dev.csv and test.csv with all of theirs; columns text, label. A larger N of the same seed holds the rows of the smaller.
"""
from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data/sentiment-amazon"


def read(split: str) -> list[tuple[str, str]]:
    with open(DATA / f"{split}.tsv", encoding="utf-8", newline="\n") as source:
        rows = list(csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row[2], "negative" if float(row[1]) < 0 else "positive" if float(row[1]) > 0 else "neutral") for row in rows]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for split in ("dev", "test"):
        write(options.out / f"{split}.csv", read(split))
    rows = read("train")
    random.Random(options.seed).shuffle(rows)
    for count in options.rows:
        of_class = {label: [row for row in rows if row[1] == label][:count] for label in ("negative", "neutral", "positive")}
        write(options.out / f"train-{count}.csv", [row for row in rows if row in of_class[row[1]]])


if __name__ == "__main__":
    main()
