#!/usr/bin/env python3
"""Writes docs/graph-models.md: every tiny family through model.backend=graph, what is found, trained, merged, and how equal it is.

  .venv/bin/python tools/graph_table.py [--program build/deeplora] [--output docs/graph-models.md] [FAMILY ...]

Each family is exported, trained for 6 steps with LoRA and Deep LoRA on rows of token ids, merged and run with plain
torch.jit.load. Causal and sequence-to-sequence models are only inspected: their rows need no classification head.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch

import export_torchscript
import make_tiny_models

ROOT = Path(__file__).resolve().parents[1]
METHODS = {"LoRA": "method: lora, rank: 3", "Deep LoRA": "method: deep-lora, rank: 3, depth: 3"}
HEADER = """# Models of the graph backend

Made by `tools/graph_table.py` from the tiny random models of `tools/make_tiny_models.py`; do not edit.

`model.backend: graph` runs the archive's own code and puts a call of the adapter in place of each operator that reads a weight:
`linear`, `matmul`/`mm`/`addmm` (weights stored `[in, out]`, GPT-2's, included), `embedding` and 1x1 `conv1d`, also inside loops
and branches. Tied weights are one site. A weight that another operator reads too (an LSTM's, `einsum`) is listed by
`deeplora inspect` with the reason, and stays frozen. Refused in one line: frozen archives (`torch.jit.freeze`), quantised weights,
models traced in training mode, and sizes baked in by tracing. A model without `attention_mask` trains on texts of equal length, or
of any length when it ignores padding by itself.

Largest difference between the live adapted model and its merged file in plain `torch.jit.load`, relative to the largest logit,
after 6 steps on `targets: all-linear`:

| model | task | sites | adapted | roles found | LoRA | Deep LoRA |
|---|---|---|---|---|---|---|
"""


def call(program: Path, *arguments) -> str:
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(next((line for line in done.stderr.splitlines() if line.startswith("error: ")), "failed"))
    return done.stdout


def write_rows(path: Path, count: int) -> None:
    rng = random.Random(1)
    rows = [[rng.randrange(5, 60) for _ in range(rng.randint(3, 9))] for _ in range(count)]
    path.write_text("".join(json.dumps({"input_ids": ids, "label": sum(ids) % 3}) + "\n" for ids in rows))


def logits_of(merged: Path, rows: Path, pad: int) -> torch.Tensor:
    ids = [json.loads(line)["input_ids"] for line in rows.read_text().splitlines()]
    batch = torch.full((len(ids), max(map(len, ids))), pad)
    mask = torch.zeros_like(batch)
    for i, row in enumerate(ids):
        batch[i, :len(row)], mask[i, :len(row)] = torch.tensor(row), 1
    values = {"input_ids": batch, "attention_mask": mask, "token_type_ids": torch.zeros_like(batch)}
    module = torch.jit.load(str(merged))
    with torch.no_grad():
        return module(**{a.name: values[a.name] for a in module.forward.schema.arguments[1:]})


def difference(program: Path, folder: Path, archive: Path, rows: Path, adapter: str, pad: int) -> str:
    run, merged = folder / "run", folder / "merged.pt"
    (folder / "config.yaml").write_text(f"""model: {{path: {archive}, backend: graph}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{{adapter}}}
train: {{steps: 6, batch_size: 8, lr: 0.01}}
""")
    try:
        call(program, "finetune", folder / "config.yaml", "--run", run)
        live = torch.tensor([json.loads(line)["logits"] for line in call(program, "predict", run, "--input", rows).splitlines()])
        call(program, "export", run, "--to", "torchscript", "--output", merged)
        return f"{((logits_of(merged, rows, pad) - live).abs().max() / live.abs().max()).item():.0e}"
    except RuntimeError as error:
        return str(error)


def row_of(program: Path, name: str, folder: Path) -> str:
    archive, rows = folder / "model.pt", folder / "rows.jsonl"
    make_tiny_models.make(name, str(folder / "hf"))
    about = export_torchscript.export(str(folder / "hf"), str(archive))
    seen = json.loads(call(program, "inspect", archive, "--backend", "graph", "--json"))
    roles = Counter(site["role"] for site in seen["sites"])
    cells = [name, about["task"], len(seen["sites"]), len(seen["targets"]["all-linear"]), ", ".join(f"{k} {v}" for k, v in sorted(roles.items()))]
    if about["task"] not in ("encoder", "classifier"):
        return "| " + " | ".join(map(str, [*cells, "inspected", "inspected"])) + " |"
    write_rows(rows, 24)
    pad = json.loads((folder / "hf/config.json").read_text()).get("pad_token_id") or 0
    for i, adapter in enumerate(METHODS.values()):
        (folder / str(i)).mkdir()
        cells.append(difference(program, folder / str(i), archive, rows, adapter, pad))
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="default: all")
    parser.add_argument("--program", type=Path, default=ROOT / "build/deeplora")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/graph-models.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = []
    for name in options.families or make_tiny_models.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row_of(options.program, name, Path(folder)))
        print(lines[-1], flush=True)
    options.output.write_text(HEADER + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
