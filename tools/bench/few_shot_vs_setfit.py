#!/usr/bin/env python3
"""deeplora's contrastive classification and the setfit package on the same rows: test accuracy and seconds, at several numbers of rows a class.

  .venv/bin/python tools/bench/few_shot_vs_setfit.py ROWS_FOLDER [--counts 8 16] [--seeds 1 2 3] [--threads N] [--model FOLDER] [--python PYTHON]

ROWS_FOLDER is what tools/make_sentiment_classes.py writes. setfit is no part of the project's environment: --python names an interpreter that has it
(python -m venv DIR; DIR/bin/pip install setfit). Both sides see each kind of pair as often (one epoch of oversampled pairs), take batches of 16 and a
logistic head; setfit tunes every weight at its own 2e-5, deeplora both so (full) and LoRA at 1e-3. Seconds are those of the whole process.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from finetune_vs_peft import ROOT, measured, minilm

PEER = """
import csv, json, sys
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

model, train, test, seed, threads, scratch = sys.argv[1:]
torch.set_num_threads(int(threads))
rows = {name: list(csv.DictReader(open(path, encoding="utf-8"))) for name, path in (("train", train), ("test", test))}
labels = sorted({row["label"] for row in rows["train"]})
arguments = TrainingArguments(output_dir=scratch, batch_size=16, num_epochs=1, sampling_strategy="oversampling", seed=int(seed), save_strategy="no", report_to="none")
made = SetFitModel.from_pretrained(model, labels=labels, device="cpu")
Trainer(model=made, args=arguments, train_dataset=Dataset.from_list(rows["train"])).train()
found = made.predict([row["text"] for row in rows["test"]])
print(json.dumps({"accuracy": sum(str(a) == row["label"] for a, row in zip(found, rows["test"])) / len(found)}))
"""


def ours(scratch: Path, adapter: str, train: Path, folder: Path, seed: int, options, environment) -> tuple[float, float]:
    path, run = scratch / "config.yaml", scratch / f"run-{adapter[:14].split()[-1].strip(',')}-{train.stem}-{seed}"
    path.write_text(f"model: {{path: {options.model}}}\ndata: {{task: classification, train: {train}, dev: {folder / 'dev.csv'}, test: {folder / 'test.csv'}, max_length: 128}}\n"
                    f"adapter: {{{adapter}}}\ntrain: {{contrastive: true, epochs: 1, batch_size: 16, keep: last, eval_every: 1000000, seed: {seed}, threads: {options.threads}, "
                    f"lr: {'2e-5' if 'full' in adapter else '1e-3'}}}\n")
    seconds, _ = measured([str(ROOT / "build/deeplora"), "finetune", str(path), "--run", str(run)], environment)
    return json.loads((run / "result.json").read_text())["test"]["accuracy"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default=None)
    parser.add_argument("--python", default=None, help="an interpreter that has setfit; without it deeplora runs alone")
    options = parser.parse_args()
    options.model, folder = options.model or minilm(), options.folder.resolve()
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as scratch:
        for count in options.counts:
            train, found = folder / f"train-{count}.csv", {}
            for seed in options.seeds:
                for name, adapter in (("deeplora, LoRA", "method: lora, rank: 8"), ("deeplora, full", "method: full")):
                    found.setdefault(name, []).append(ours(Path(scratch), adapter, train, folder, seed, options, environment))
                if options.python:
                    seconds, said = measured([options.python, "-c", PEER, options.model, str(train), str(folder / "test.csv"), str(seed), str(options.threads), scratch], environment)
                    found.setdefault("setfit", []).append((json.loads(said.splitlines()[-1])["accuracy"], seconds))
            for name, runs in found.items():
                accuracies, times = zip(*runs)
                print(f"{count} rows a class, {name}: test accuracy {statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f}), "
                      f"{statistics.median(times):.1f} s", flush=True)


if __name__ == "__main__":
    main()
