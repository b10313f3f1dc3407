#!/usr/bin/env python3
"""A training step through a TorchScript archive's graph against the native family, or (--against exported) a program of
torch.export of the same model against that graph, in alternation, on the same rows. Prints the ratios of a step's time,
of the time from the start to the first step, and of the largest memory, with their spread.

  .venv/bin/python tools/bench/graph_vs_native.py [--against native] [--pairs 5] [--steps 40] [--batch 16] [--tokens 32
  64 128] [--threads N]
                                                  [--method lora] [--json]

The native family leaves padding out, the archive's own code does not, so every row has the same number of tokens:
nothing is padded and both compute the same. A step's time is (whole training - first step) / (steps - 1), from
result.json of runs that are processes of their own (A B, B A, A B ...); a ratio is taken pair by pair, the median is
printed with the smallest and the largest.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from finetune_vs_peft import ROOT, measured, minilm

ADAPTERS = {"lora": "method: lora, rank: 8, alpha: 16", "deep-lora": "method: deep-lora, rank: 8, depth: 3"}
# What a contender is for the program. A ratio is the first over the second.
CONTENDERS = {"graph": ("graph", "model.pt"), "native": ("native", "model.pt"), "exported": ("graph", "model.pt2")}
PAIRS = {"native": ("graph", "native"), "exported": ("exported", "graph")}


def write_rows(path: Path, count: int, tokens: int, vocabulary: int) -> None:
    rng = random.Random(1)
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(count):
            ids = [rng.randrange(1000, vocabulary) for _ in range(tokens)]
            out.write(json.dumps({"input_ids": ids, "label": rng.random()}) + "\n")


# What is measured of a run, from its result.json: a name, what it is of the result and the options, and how it is
# printed.
MEASURES = {"step, ms": lambda result, options: 1e3 * options.batch / result["samples_per_second"],
            "first step, s": lambda result, options: result["seconds_to_first_step"],
            "memory, MB": lambda result, options: result["peak_rss_mb"]}


def measures(options, place: Path, contender: str, run: Path, environment: dict) -> dict[str, float]:
    backend, model = CONTENDERS[contender]
    measured([options.program, "finetune", str(place / "config.yaml"), "--run", str(run), "--set",
              f"model.backend={backend}",
              "--set", f"model.path={place / model}"], environment)
    result = json.loads((run / "result.json").read_text())
    return {name: measure(result, options) for name, measure in MEASURES.items()}


def compare(options, place: Path, tokens: int, environment: dict) -> dict:
    write_rows(place / "rows.jsonl", options.batch * 8, tokens, options.vocabulary)
    (place / "config.yaml").write_text(
        f"model: {{path: {place}/model.pt, dropout: 0.0}}\n"
        f"data: {{task: regression, train: {place}/rows.jsonl, max_length: {tokens}}}\n"
        f"adapter: {{{ADAPTERS[options.method]}, targets: all-linear}}\n"
        f"train: {{steps: {options.steps}, batch_size: {options.batch}, lr: 1e-3, log_every: 1000, threads: "
        f"{options.threads}}}\n")
    first, second = PAIRS[options.against]
    runs: dict[str, list[dict[str, float]]] = {first: [], second: []}
    for pair in range(options.pairs):
        for contender in (first, second)[::1 if pair % 2 == 0 else -1]:
            runs[contender].append(measures(options, place, contender, place / f"{tokens}-{pair}-{contender}",
                                            environment))
    table = {}
    for name in MEASURES:
        ratios = [a[name] / b[name] for a, b in zip(runs[first], runs[second])]
        table[name] = {**{contender: statistics.median(run[name] for run in runs[contender]) for contender in runs},
                       "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {"tokens": tokens, **table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/deeplora"))
    parser.add_argument("--against", choices=PAIRS, default="native",
                        help="native: graph / native; exported: .pt2 / graph of the .pt")
    parser.add_argument("--model", default=None, help="Hugging Face folder of an encoder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager", help="of the exported archive")
    parser.add_argument("--method", choices=ADAPTERS, default="lora")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(options.model or minilm())
    options.vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads),
                   "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for model in sorted({CONTENDERS[contender][1] for contender in PAIRS[options.against]}):
            measured([sys.executable, "tools/export_torchscript.py", str(folder), str(place / model), "--attention",
                      options.attention], environment)
        print(f"{options.pairs} pairs, {options.steps} steps of {options.batch} rows, {options.method}, "
              f"{options.threads} threads, {options.attention} attention in the archive")
        first, second = PAIRS[options.against]
        print(f"{'tokens a row':>12}  {'':<14}{first:>10}{second:>10}   {first} / {second} (median, least .. most)")
        table = []
        for tokens in options.tokens:
            table.append(compare(options, place, tokens, environment))
            for name in MEASURES:
                row = table[-1][name]
                print(f"{tokens:>12}  {name:<14}{row[first]:>10.1f}{row[second]:>10.1f}   {row['ratio']:.3f} "
                      f"({row['least']:.3f} .. {row['most']:.3f})", flush=True)
    if options.json:
        print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
