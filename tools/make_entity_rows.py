#!/usr/bin/env python3
"""Writes a small data set for token-classification: sentences with people, places and dates, made from templates.

  make_entity_rows.py OUT_DIR                     train.jsonl (600 sentences), dev.jsonl (150), test.jsonl (150)
  make_entity_rows.py OUT_DIR --scheme iobes      tags in another scheme: iob1, iob2 (default), iobes, bilou
  make_entity_rows.py OUT_DIR --conll             train.conll and so on, words in columns

Dev and test hold names that no training sentence has. The same arguments give the same files.
"""
from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

SIZES = {"train": 600, "dev": 150, "test": 150}
FIRST = (("Anna Boris Clara David Elena Farid Greta Hugo Irene Jonas Karim Laura Marco Nadia Oscar Priya Quentin Rosa "
          "Stefan Tara".split(), "Ursula Viktor Wanda Yusuf Zoë".split()))
LAST = (("Abel Brandt Costa Dubois Eriksen Fischer Garcia Haddad Ivanova Jensen Kowalski Lindgren Moreau Novak Okafor "
         "Petrov Rossi Schmidt Tanaka Weber".split(), "Álvarez Bauer Chen Duarte Ekström".split()))
PLACES = (["Berlin", "Paris", "Oslo", "Madrid", "Cairo", "Lima", "Kyoto", "New York", "Cape Town", "Buenos Aires",
           "Porto", "Geneva", "Vienna", "Tunis", "Hanoi", "San Diego"],
          ["Lisbon", "Dublin", "São Paulo", "Ankara", "Quito"])
MONTHS = "January February March April May June July August September October November December".split()
TEMPLATES = [
    "{PER} moved to {LOC} in {DATE} .", "On {DATE} , {PER} met {PER} near {LOC} .",
    "The train from {LOC} to {LOC} was late again .", "{PER} was born in {LOC} .",
    "Did {PER} really leave {LOC} before {DATE} ?", "Nothing happened on {DATE} .",
    "The council of {LOC} thanked {PER} for the report .", "We saw him in the park yesterday .",
    "\" {PER} will open the museum in {LOC} on {DATE} , \" said {PER} .", "It rained all day , and nobody came .",
    "Tickets for {LOC} are sold until {DATE} .", "{PER} and {PER} won the race .",
    "In {LOC} , {DATE} is a holiday .", "The letter that {PER} wrote reached {LOC} weeks later .",
    "Her brother works for a bank .", "Ask {PER} whether the meeting of {DATE} still stands .",
]
LETTERS = {"iob2": "BIIB", "iob1": "IIII", "iobes": "BIES", "bilou": "BILU"}  # first, inside, last, alone


def pick(rng: random.Random, lists, unseen: bool) -> str:
    return rng.choice(lists[1] if unseen and rng.random() < 0.5 else lists[0])


def filled(rng: random.Random, kind: str, unseen: bool) -> list[str]:
    if kind == "PER":
        return [pick(rng, FIRST, unseen), pick(rng, LAST, unseen)][: rng.choice([1, 2, 2])]
    if kind == "LOC":
        return pick(rng, PLACES, unseen).split()
    month = rng.choice(MONTHS)
    return rng.choice([[month, str(rng.randint(1990, 2024))], [str(rng.randint(1, 28)), month], [month],
                       [str(rng.randint(1, 28)), month, str(rng.randint(1990, 2024))]])


def sentence(rng: random.Random, unseen: bool, scheme: str) -> dict:
    tokens, tags = [], []
    first, inside, last, alone = LETTERS[scheme]
    for word in rng.choice([one for one in TEMPLATES if "{" in one or not unseen]).split():
        if not word.startswith("{"):
            tokens.append(word)
            tags.append("O")
            continue
        kind = word[1:-1]
        words = filled(rng, kind, unseen)
        letters = [alone] if len(words) == 1 else [first] + [inside] * (len(words) - 2) + [last]
        tokens += words
        tags += [f"{letter}-{kind}" for letter in letters]
    return {"tokens": tokens, "tags": tags}


def rows(split: str, scheme: str = "iob2", size: int | None = None) -> list[dict]:
    """Sentences of a split, all different."""
    rng, seen, out = random.Random(f"entities {split}"), set(), []
    while len(out) < (size or SIZES[split]):
        row = sentence(rng, split != "train", scheme)
        if tuple(row["tokens"]) not in seen:
            seen.add(tuple(row["tokens"]))
            out.append(row)
    return out


def as_conll(sentences: list[dict]) -> str:
    return "\n".join("".join(f"{word} {tag}\n" for word, tag in zip(one["tokens"], one["tags"])) for one in sentences)


def write(folder: Path, scheme: str = "iob2", conll: bool = False, sizes: dict | None = None) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for split, size in (sizes or SIZES).items():
        out[split] = folder / f"{split}.{'conll' if conll else 'jsonl'}"
        made = rows(split, scheme, size)
        out[split].write_text(as_conll(made) if conll else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row
            in made), "utf-8")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="OUT_DIR", type=Path)
    parser.add_argument("--scheme", choices=LETTERS, default="iob2")
    parser.add_argument("--conll", action="store_true")
    options = parser.parse_args()
    for path in write(options.folder, options.scheme, options.conll).values():
        print(path)


if __name__ == "__main__":
    main()
