#!/usr/bin/env python3
"""deeplora and sentence-transformers + PEFT in alternation: vectors of texts trained on the same rows, batches, epochs,
threads. Prints ratios.

  .venv/bin/python tools/bench/embedding_vs_sentence_transformers.py [--pairs 3] [--epochs 1] [--rows N] [--batch 16]
  [--threads N] [--model FOLDER] [--files pairs.jsonl]

Two jobs in one run: STS-B captions as scored pairs (CoSENTLoss) and as pairs (MultipleNegativesRankingLoss; the
captions scored 3 and more, or --files: JSON lines with text and text_pair). Each side runs as a process of its own, in
turn (A B A B ...); a ratio is taken pair by pair and the median is printed with the smallest and the largest. Both
train LoRA of rank 8 at all linear weights with AdamW, linear decay and clipping at 1, rows shuffled beforehand;
samples/s leave the start out. The dev Spearman of STS-B captions is printed for both, so that nobody wins by not
learning.
"""
from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from finetune_vs_peft import ROOT, measured, minilm


def captions(split: str) -> list[dict]:
    with open(ROOT / f"data/stsb-captions/{split}.tsv", encoding="utf-8", newline="\n") as source:
        return [{"text": row[2], "text_pair": row[3], "label": float(row[1])} for row in csv.reader(source,
            delimiter="\t", quoting=csv.QUOTE_NONE)]


def write_rows(path: Path, rows: list[dict], count: int | None) -> Path:
    random.Random(1).shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]), encoding="utf-8")
    return path


def peer(options) -> None:
    """The other side's process."""
    import torch
    from peft import LoraConfig
    from scipy.stats import spearmanr
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    rows = [json.loads(line) for line in Path(options.worker).read_text("utf-8").splitlines()]
    model = SentenceTransformer(options.model, device="cpu")
    model.max_seq_length = 128
    model.add_adapter(LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    scored = "label" in rows[0]
    loss = losses.CoSENTLoss(model) if scored else losses.MultipleNegativesRankingLoss(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    batches = [rows[i:i + options.batch] for i in range(0, len(rows), options.batch)]
    total = len(batches) * options.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    tokenize = getattr(model, "preprocess", None) or model.tokenize
    model.train()
    done, began = 0, 0.0
    for step in range(total):
        if step == 1:
            began = time.perf_counter()
        batch = batches[step % len(batches)]
        features = [tokenize([row[column] for row in batch]) for column in ("text", "text_pair")]
        value = loss(features, torch.tensor([row["label"] for row in batch]) if scored else None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done += len(batch) if step else 0
    seconds = time.perf_counter() - began
    dev = captions("dev")
    with torch.no_grad():
        model.eval()
        a, b = (torch.tensor(model.encode([row[column] for row in dev])) for column in ("text", "text_pair"))
    print(json.dumps({"samples_per_second": done / seconds, "dev": float(spearmanr(torch.cosine_similarity(a, b),
        [row["label"] for row in dev])[0]),
                      "trained": sum(p.numel() for p in trained)}))


def ours(scratch: Path, number: int, rows: Path, scored: bool, options, environment) -> dict:
    path, run = scratch / "config.yaml", scratch / f"run-{number}"
    dev = write_rows(scratch / f"dev-{number}.jsonl", captions("dev"), None)
    path.write_text(f"model: {{path: {options.model}}}\ndata: {{task: embedding, train: {rows}, dev: {dev}, "
                    f"max_length: 128, loss: {'cosent' if scored else 'mnr'}}}\n"
                    "adapter: {method: lora, rank: 8, alpha: 16, targets: all-linear}\n"
                    f"train: {{epochs: {options.epochs}, batch_size: {options.batch}, lr: 1e-3, shuffle: false, "
                    f"group_by_length: false, threads: {options.threads}, "
                    f"log_every: 1000, keep: last, eval_every: 1000000}}\n")
    measured([str(ROOT / "build/deeplora"), "finetune", str(path), "--run", str(run)], environment)
    found = json.loads((run / "result.json").read_text())
    return {"samples_per_second": found["samples_per_second"], "dev": found["last"]["spearman"],
            "trained": found["trainable_parameters"]}


def compare(name: str, rows: Path, scored: bool, scratch: Path, options) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1",
                   "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--worker", str(rows), "--model", options.model, "--batch", str(options.batch),
               "--epochs", str(options.epochs),
               "--threads", str(options.threads)]
    ratios = []
    for number in range(options.pairs):
        mine = ours(scratch / name, number, rows, scored, options, environment)
        other = json.loads(measured(command, environment)[1].splitlines()[-1])
        ratios.append(mine["samples_per_second"] / other["samples_per_second"])
        print(f"{name} {number + 1}: deeplora {mine['samples_per_second']:.1f} samples/s, dev spearman "
              f"{mine['dev']:.4f}, {mine['trained']} trained; "
              f"sentence-transformers {other['samples_per_second']:.1f}, {other['dev']:.4f}, {other['trained']}; ratio "
              f"{ratios[-1]:.2f}", flush=True)
    print(f"{name}: samples/s, deeplora over sentence-transformers + PEFT: median {statistics.median(ratios):.2f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("--pairs", 3), ("--epochs", 1), ("--rows", None), ("--batch", 16),
                          ("--threads", os.cpu_count())):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--model", default=None)
    parser.add_argument("--files", default=None)
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or minilm()
    if options.worker:
        return peer(options)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in ("scored", "pairs"):
            (scratch / name).mkdir()
        scored = write_rows(scratch / "scored.jsonl", captions("train"), options.rows)
        found = [json.loads(line) for line
                 in Path(options.files).read_text("utf-8").splitlines()] if options.files else [row for row
                     in captions("train") if row["label"] >= 3]
        plain = write_rows(scratch / "pairs.jsonl", [{"text": row["text"], "text_pair": row["text_pair"]} for row
                                                     in found], options.rows)
        compare("scored", scored, True, scratch, options)
        compare("pairs", plain, False, scratch, options)


if __name__ == "__main__":
    main()
