#!/usr/bin/env python3
"""Turns the E2E restaurant descriptions (CSV with columns mr, ref) into JSONL for configs/e2e_lora.yaml.

  make_e2e.py DEVSET.csv TESTSET_W_REFS.csv OUT_DIR [--train 400] [--dev 40] [--test 40] [--seed 1]

The data are Novikova, Dusek and Rieser (2017), arXiv 1706.09254. Rows are drawn by --seed: OUT_DIR/train.jsonl holds
pairs {"mr", "ref"} of the first file, dev.jsonl meaning representations of the first file that train.jsonl lacks,
test.jsonl some of the second file, both with all their references: {"mr", "ref", "references"}; "ref" is the first of
them.
"""
from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from pathlib import Path


def read(path: str) -> dict[str, list[str]]:
    """meaning representation -> its references, in the file's order."""
    out: dict[str, list[str]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            if not row.get("mr") or not row.get("ref"):
                raise ValueError(f"{path}:{number}: expected columns mr and ref")
            out.setdefault(row["mr"], []).append(row["ref"].strip())
    return out


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    print(f"{path}: {len(rows)} rows")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devset")
    parser.add_argument("testset")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--dev", type=int, default=40)
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args(arguments)
    try:
        first, second = read(o.devset), read(o.testset)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    draw = random.Random(o.seed)
    held = draw.sample(sorted(first), min(o.dev, len(first) // 2))
    pairs = [{"mr": mr, "ref": ref} for mr in sorted(first) if mr not in set(held) for ref in first[mr]]
    if len(pairs) < o.train or len(second) < o.test:
        print(f"error: expected {o.train} pairs and {o.test} test inputs, found {len(pairs)} and {len(second)}",
              file=sys.stderr)
        return 1

    def scored(references: dict[str, list[str]], chosen: list[str]) -> list[dict]:
        return [{"mr": mr, "ref": references[mr][0], "references": references[mr]} for mr in chosen]

    o.out_dir.mkdir(parents=True, exist_ok=True)
    write(o.out_dir / "train.jsonl", draw.sample(pairs, o.train))
    write(o.out_dir / "dev.jsonl", scored(first, held))
    write(o.out_dir / "test.jsonl", scored(second, draw.sample(sorted(second), o.test)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
