#!/usr/bin/env python3
"""Turns the shipped review sentiment (scores from -4 to 4) into three classes, for configs/few_shot.yaml,
configs/compare/few_shot_contrastive.yaml and configs/compare/three_classes.yaml.

  make_sentiment_classes.py OUT_DIR [--rows 8 16 64 all] [--neutral 0] [--seed 1]

Writes train-N.csv with N rows of each class (negative, neutral, positive; all there are where a class has fewer),
dev.csv and test.csv with all of theirs; columns text, label. Neutral are scores of at most --neutral on either side
of 0: 43 training rows at 0, 361 at 0.5. A larger N of the same seed holds the rows of the smaller.
"""
from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data/sentiment-amazon"
LABELS = ("negative", "neutral", "positive")


def label_of(score: float, neutral: float) -> str:
    return "neutral" if abs(score) <= neutral else "negative" if score < 0 else "positive"


def read(split: str, neutral: float) -> list[tuple[str, str]]:
    with open(DATA / f"{split}.tsv", encoding="utf-8", newline="\n") as source:
        rows = list(csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row[2], label_of(float(row[1]), neutral)) for row in rows]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", default=["8", "16", "64"])
    parser.add_argument("--neutral", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for split in ("dev", "test"):
        write(options.out / f"{split}.csv", read(split, options.neutral))
    rows = read("train", options.neutral)
    random.Random(options.seed).shuffle(rows)
    for count in options.rows:
        most = len(rows) if count == "all" else int(count)
        of_class = {label: [row for row in rows if row[1] == label][:most] for label in LABELS}
        write(options.out / f"train-{count}.csv", [row for row in rows if row in of_class[row[1]]])


if __name__ == "__main__":
    main()
