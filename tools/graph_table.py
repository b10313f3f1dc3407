#!/usr/bin/env python3
"""Writes docs/graph-models.md: every model of the test set through model.backend=graph, what is found, trained, merged,
and how equal it is.

  .venv/bin/python tools/graph_table.py [--program build/deeplora] [--output docs/graph-models.md] [MODEL ...]

Each model is trained for 6 steps with LoRA and Deep LoRA on rows of token ids, merged and run with plain
torch.jit.load. The text around the table is tools/graph_table.md. What torch.export takes is also trained and merged as
its program (.pt2). A model saved in several ways has a row for each: "lstm (script)".
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
from inspect import signature
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from torch.nn.functional import cross_entropy

import export_torchscript
import make_tiny_models

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))
import graph_models
import weight_models
from fork_server import started

METHODS = {"LoRA": "method: lora, rank: 3", "Deep LoRA": "method: deep-lora, rank: 3, depth: 3"}
PLACE = "<!-- table -->"
# no attention_mask; the traced length, which torch.nn.MultiheadAttention bakes in
FIXED_LENGTH = {"lstm": 6, "torch-encoder": 9}
LENGTH = 7  # of the rows for models that read their padding (a convolution, a bag)
PLAIN = {"scripted-transformer": graph_models.LoopedTransformer, "torch-encoder": graph_models.TorchEncoder,
         "lstm": graph_models.Recurrent,
         "shared-blocks": graph_models.SharedBlocks}
INPUTS = {name: ", ".join(f"{ours}: {theirs}" for ours, theirs in names.items()) for name,
          names in graph_models.INPUTS.items()}
WEIGHTS = {f"{name} ({how})": (name, how) for name, (_, _, ways) in weight_models.MODELS.items()
           for how in [*ways, *(["script+freeze", "trace+freeze", "closure", "trace+optimize"] if name == "folded"
                                else [])]}
KINDS = {"encoder": "classification", "classifier": "classification", "causal-lm": "causal-lm", "seq2seq": "seq2seq"}


def call(program: Path, *arguments) -> str:
    done = subprocess.run([*started(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(next((line for line in done.stderr.splitlines() if line.startswith("error: ")), "failed"))
    return done.stdout


def write_rows(path: Path, task: str, length: int | None, labels: int) -> list[dict]:
    rng = random.Random(1)
    rows = []
    for _ in range(24):
        # the scripted model takes batches below 4 tokens through another branch
        ids = [rng.randrange(5, 50) for _ in range(length or rng.randint(4, 9))]
        label = {"classification": {"label": sum(ids) % labels}, "seq2seq": {"labels": ids[::-1][:5]},
                 "causal-lm": {}}[task]
        rows.append({"input_ids": ids, **label})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


class Merged:
    """A merged file's own forward in plain PyTorch."""

    def __init__(self, path: Path):
        if path.suffix == ".pt2":
            program = torch.export.load(str(path))
            self.forward, self.names = program.module(), list(program.example_inputs[1])
        else:
            self.forward = torch.jit.load(str(path))
            self.names = [a.name for a in self.forward.forward.schema.arguments[1:]]


def arguments_of(merged: Merged, name: str, ids, decoder=None) -> dict:
    """forward()'s arguments for one row, twice: programs of torch.export may ask for two."""
    ids = torch.tensor([ids, ids])
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    if decoder is not None:
        values["decoder_input_ids"] = torch.tensor([decoder, decoder])
        values["decoder_attention_mask"] = torch.ones_like(values["decoder_input_ids"])
    names = {theirs: ours for ours, theirs in graph_models.INPUTS.get(name, {}).items()}
    return {argument: values[names.get(argument, argument)] for argument in merged.names}


def first_tensor(value):
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


@torch.no_grad()
def merged_logits(merged: Path, name: str, rows: list[dict]) -> torch.Tensor:
    file = Merged(merged)
    return torch.cat([first_tensor(file.forward(**arguments_of(file, name, row["input_ids"])))[:1] for row in rows])


@torch.no_grad()
def merged_loss(merged: Path, name: str, task: str, start: int, rows: list[dict]) -> float:
    """Mean cross-entropy of a predicted token."""
    file, total, count = Merged(merged), 0.0, 0
    for row in rows:
        ids = row["input_ids"]
        labels = ids[1:] if task == "causal-lm" else row["labels"]
        decoder = None if task == "causal-lm" else [start, *labels[:-1]]
        logits = first_tensor(file.forward(**arguments_of(file, name, ids, decoder)))[0, :len(labels)]
        total += cross_entropy(logits.double(), torch.tensor(labels), reduction="sum").item()
        count += len(labels)
    return total / count


def difference(program: Path, folder: Path, archive: Path, name: str, task: str, rows: list[dict], adapter: str,
               targets: str) -> str:
    """Live against merged: of logits over the largest, or of the loss of a language model over it."""
    run, merged, data = folder / "run", folder / f"merged{archive.suffix}", folder.parent / "rows.jsonl"
    inputs = f", inputs: {{{INPUTS[name]}}}" if name in INPUTS else ""
    more = ", pack: false" if task == "causal-lm" else ""
    (folder / "config.yaml").write_text(f"""model: {{path: {archive}, backend: graph{inputs}}}
data: {{task: {task}, train: {data}, dev: {data}{more}}}
adapter: {{{adapter}, targets: {targets}}}
train: {{steps: 6, batch_size: 8, lr: 0.01}}
""")
    try:
        call(program, "finetune", folder / "config.yaml", "--run", run)
        call(program, "export", run, "--output", merged)
        if task == "classification":
            live = torch.tensor([json.loads(line)["logits"] for line in call(program, "predict", run, "--input",
                data).splitlines()])
            return f"{((merged_logits(merged, name, rows) - live).abs().max() / live.abs().max()).item():.0e}"
        live = json.loads(call(program, "evaluate", run, "--data", data, "--json"))["loss"]
        config = folder.parent / "hf" / "config.json"
        start = json.loads(config.read_text()).get("decoder_start_token_id") if config.exists() else None
        found = merged_loss(merged, name, task, start, rows)
        return f"{abs(found - live) / abs(live):.0e}"
    except RuntimeError as error:
        return str(error).replace(f"{archive.parent}/", "").removeprefix("error: ").partition(";")[0]


def make_archive(name: str, folder: Path) -> tuple[Path, str]:
    """(archive, kind)"""
    archive = folder / "model.pt"
    if name in WEIGHTS:
        of, how = WEIGHTS[name]
        weight_models.saved_as(weight_models.make(of, torch.float32), how, archive,
                               tuple(weight_models.batch().values()))
        return archive, "classifier"
    if name in graph_models.MODELS:
        graph_models.save(name, archive, torch.float32)
        return archive, {"torch-encoder": "encoder", "shared-blocks": "causal-lm"}.get(name, "classifier")
    make_tiny_models.make(name, str(folder / "hf"))
    return archive, export_torchscript.export(str(folder / "hf"), str(archive))["task"]


def row_of(program: Path, name: str, folder: Path) -> str:
    archive, kind = make_archive(name, folder)
    seen = json.loads(call(program, "inspect", archive, "--backend", "graph", "--json"))
    roles = Counter(site["role"] for site in seen["sites"])
    targets = "all-linear" if seen["targets"]["all-linear"] else "all-weights"
    adapted = len(seen["targets"][targets])
    rows = write_rows(folder / "rows.jsonl", KINDS[kind], LENGTH if name in WEIGHTS else FIXED_LENGTH.get(name),
                      2 if name in {**graph_models.MODELS, **WEIGHTS} else 3)
    cells = [name, kind, len(seen["sites"]), adapted, len(seen["targets"]["query-value"]), ", ".join(f"{k} {v}" for k,
        v in sorted(roles.items()))]
    for i, adapter in enumerate(METHODS.values()):
        (folder / str(i)).mkdir()
        cells.append(difference(program, folder / str(i), archive, name, KINDS[kind], rows, adapter, targets))
    cells.append(exported_cell(program, name, folder, KINDS[kind], rows, targets))
    return "| " + " | ".join(map(str, cells)) + " |"


def plain_program(name: str, path: Path) -> None:
    """torch.export.save of a plain module; rows and tokens are free where its code leaves them so."""
    if name in WEIGHTS:
        model, batch = weight_models.make(WEIGHTS[name][0], torch.float32), weight_models.batch()
    else:
        torch.manual_seed(0)
        model, ids = PLAIN[name](), torch.ones(2, FIXED_LENGTH.get(name, 7), dtype=torch.int64)
        batch = dict(zip(signature(model.forward).parameters, (ids, ids)))
    shapes = {key: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for key in batch}
    torch.export.save(torch.export.export(model.eval(), (), batch, dynamic_shapes=shapes), str(path))


def exported_cell(program: Path, name: str, folder: Path, task: str, rows: list[dict], targets: str) -> str:
    """The same by torch.export, with LoRA; why not, where it does not take the model."""
    archive, place = folder / "model.pt2", folder / "exported"
    place.mkdir()
    try:
        if name in graph_models.MODELS or name in WEIGHTS:
            plain_program(name, archive)
        else:
            export_torchscript.export(str(folder / "hf"), str(archive))
    except Exception as error:  # torch.export has no class of its own for code that it does not take
        return f"torch.export: {str(error).strip().splitlines()[0][:90]}"
    return difference(program, place, archive, name, task, rows, METHODS["LoRA"], targets)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="default: all")
    parser.add_argument("--program", type=Path, default=ROOT / "build/deeplora")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/graph-models.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines = ["| model | kind | sites | adapted | query-value | roles found | LoRA | Deep LoRA | LoRA, .pt2 |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name in options.models or [*make_tiny_models.MODELS, *graph_models.MODELS, *WEIGHTS]:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row_of(options.program, name, Path(folder)))
        print(lines[-1], flush=True)
    text = (ROOT / "tools" / "graph_table.md").read_text()
    options.output.write_text(text.replace(PLACE, "\n".join(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
