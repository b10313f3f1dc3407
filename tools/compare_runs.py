#!/usr/bin/env python3
"""Puts the results of several run folders side by side.

  tools/compare_runs.py RUN... [--markdown]
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def load(run: str) -> dict:
    path = Path(run) / "result.json"
    if not path.exists():
        sys.exit(f"error: {path} does not exist; is the run finished?")
    return json.loads(path.read_text("utf-8"))


def cells(run: str, result: dict) -> list[str]:
    metric = next((k for k in result["test"] or result["best"] if k != "step"), "?")
    number = lambda scores: "-" if scores.get(metric) is None else f"{scores[metric]:.3f}"
    return [Path(run).name, result["method"], metric, number(result["best"]), number(result["test"]),
            f"{result['trainable_parameters']:,}", f"{result['seconds']:.0f}", f"{result['samples_per_second']:.1f}", f"{result['peak_rss_mb']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts the results of several run folders side by side.")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    table = [["run", "method", "metric", "dev", "test", "trained", "seconds", "samples/s", "peak MB"]]
    table += [cells(run, load(run)) for run in options.runs]
    if options.markdown:
        table.insert(1, ["---"] * len(table[0]))
        print("\n".join("| " + " | ".join(row) + " |" for row in table))
        return
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
