#!/usr/bin/env python3
"""Few rows of each class: {LoRA, Deep LoRA, full, head only} x {plain, in pairs} and the setfit package on the same
rows: test accuracy and seconds.

  .venv/bin/python tools/bench/few_shot_vs_setfit.py ROWS_FOLDER [--counts 8 16 64] [--seeds 1 2 3] [--methods NAME...]
  [--ways plain pairs] [--threads N]
                                                     [--model FOLDER] [--python PYTHON] [--results FILE] [--table]
                                                     [--times]

ROWS_FOLDER is what tools/make_sentiment_classes.py writes. setfit is no part of the project's environment: --python
names an interpreter that has it (python -m venv DIR; DIR/bin/pip install setfit). In pairs, deeplora and setfit see
each kind of pair as often (one epoch of oversampled pairs, at most the setfit paper's 20 of each kind a row), take
batches of 16 and end in a logistic head; plain runs
take as many steps of 16 rows. setfit tunes every weight at its own 2e-5; deeplora both so (full) and by adapters at
1e-3. Nothing is chosen on dev. Seconds are those of the whole process, for a machine that does nothing else. Every run
is a line of --results, and what is there is not run again, so that a bench that was stopped goes on; --table runs
nothing and prints what there is.
"""
from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
from collections import Counter
from pathlib import Path

from finetune_vs_peft import ROOT, measured, minilm

METHODS = {"LoRA": ("method: lora, rank: 8", 1e-3), "Deep LoRA": ("method: deep-lora, rank: 8", 1e-3),
           "full": ("method: full", 2e-5), "head only": ("method: none", 5e-3)}

PEER = """
import csv, json, sys
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

model, train, test, seed, threads, iterations, scratch = sys.argv[1:]
torch.set_num_threads(int(threads))
rows = {name: list(csv.DictReader(open(path, encoding="utf-8"))) for name, path in (("train", train), ("test", test))}
labels = sorted({row["label"] for row in rows["train"]})
arguments = TrainingArguments(output_dir=scratch, batch_size=16, num_epochs=1, sampling_strategy="oversampling",
                              seed=int(seed), num_iterations=int(iterations) or None, save_strategy="no",
                              report_to="none")
made = SetFitModel.from_pretrained(model, labels=labels, device="cpu")
Trainer(model=made, args=arguments, train_dataset=Dataset.from_list(rows["train"])).train()
found = made.predict([row["text"] for row in rows["test"]])
print(json.dumps({"accuracy": sum(str(a) == row["label"] for a, row in zip(found, rows["test"])) / len(found)}))
"""


PAIRS_A_ROW = 20  # of each kind: Tunstall et al. 2022, section 4


def pairs_of(train: Path) -> tuple[int, bool]:
    """Pairs to train on, both kinds as often, and whether the paper's bound cuts the epoch short."""
    with open(train, encoding="utf-8", newline="") as rows:
        sizes = Counter(row["label"] for row in csv.DictReader(rows)).values()
    same, count = sum(n * (n + 1) // 2 for n in sizes), sum(sizes)
    epoch, bound = 2 * max(same, count * (count + 1) // 2 - same), 2 * PAIRS_A_ROW * count
    return min(epoch, bound), bound < epoch


def ours(scratch: Path, cell: dict, train: Path, folder: Path, options, environment) -> tuple[float, float]:
    adapter, rate = METHODS[cell["method"]]
    path, run = scratch / "config.yaml", scratch / f"run-{len(list(scratch.iterdir()))}"
    path.write_text(f"model: {{path: {options.model}}}\ndata: {{task: classification, train: {train}, dev: "
                    f"{folder / 'dev.csv'}, test: {folder / 'test.csv'}, max_length: 128}}\n"
                    f"adapter: {{{adapter}}}\ntrain: {{contrastive: {'true' if cell['way'] == 'pairs' else 'false'}, "
                    f"steps: {-(-pairs_of(train)[0] // 16)}, batch_size: 16, "
                    f"keep: last, eval_every: 1000000, seed: {cell['seed']}, threads: {options.threads}, lr: "
                    f"{rate}}}\n")
    seconds, _ = measured([str(ROOT / "build/deeplora"), "finetune", str(path), "--run", str(run)], environment)
    return json.loads((run / "result.json").read_text())["test"]["accuracy"], seconds


def theirs(scratch: Path, cell: dict, train: Path, folder: Path, options, environment) -> tuple[float, float]:
    command = [options.python, "-c", PEER, options.model, str(train), str(folder / "test.csv"), str(cell["seed"]),
               str(options.threads), str(PAIRS_A_ROW if pairs_of(train)[1] else 0), str(scratch)]
    seconds, said = measured(command, environment)
    return json.loads(said.splitlines()[-1])["accuracy"], seconds


def cells_of(options) -> list[dict]:
    cells = [(name, way) for name in options.methods for way in options.ways] + ([("setfit", "pairs")] if options.python
        else [])
    return [{"rows": count, "method": name, "way": way, "seed": seed} for count in options.counts for seed
            in options.seeds for name, way in cells]


def table_of(results: list[dict], times: bool) -> str:
    """Markdown: a line a method, a column a number of rows; mean (least to most; seeds), and median seconds where they
    are asked for."""
    counts = sorted({one["rows"] for one in results})
    lines = ["| | " + " | ".join(f"{count} rows a class" for count in counts) + " |", "|---|" + "---|" * len(counts)]
    for name, way in dict.fromkeys((one["method"], one["way"]) for one in results):
        shown = []
        for count in counts:
            runs = [one for one in results if (one["rows"], one["method"], one["way"]) == (count, name, way)]
            accuracies = [one["accuracy"] for one in runs]
            shown.append(f"{statistics.mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f}; "
                         f"{len(runs)} seed{'s' * (len(runs) > 1)})"
                         + (f", {statistics.median(one['seconds'] for one in runs):.0f} s" if times else "") if runs
                         else "")
        lines.append(f"| {name}, {way} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--ways", nargs="+", default=["plain", "pairs"], choices=["plain", "pairs"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default=None)
    parser.add_argument("--python", default=None, help="an interpreter that has setfit; without it deeplora runs alone")
    parser.add_argument("--results", type=Path, default=Path("few-shot.jsonl"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--times", action="store_true", help="the table shows seconds too")
    options = parser.parse_args()
    options.model, folder = options.model or minilm(), options.folder.resolve()
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1",
                   "TOKENIZERS_PARALLELISM": "false"}
    results = [json.loads(line) for line
               in options.results.read_text().splitlines()] if options.results.exists() else []
    for cell in [] if options.table else cells_of(options):
        if any(cell.items() <= one.items() for one in results):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            side = theirs if cell["method"] == "setfit" else ours
            accuracy, seconds = side(Path(scratch), cell, folder / f"train-{cell['rows']}.csv", folder, options,
                                     environment)
        results.append({**cell, "accuracy": accuracy, "seconds": round(seconds, 1)})
        with open(options.results, "a", encoding="utf-8") as out:
            out.write(json.dumps(results[-1]) + "\n")
    print(table_of(results, options.times))


if __name__ == "__main__":
    main()
