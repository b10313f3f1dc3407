"""A program of torch.export has the same life as a TorchScript archive: stopped and resumed, trained by several
processes, compared, in half precision and with quantised weights. Oracles: the run that was not stopped, the run of one
process, and the same model's TorchScript archive."""
from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

from test_distributed import difference, together

STEPS = 6


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("life") / "rows.jsonl", random.Random(2)
    lines = [{"input_ids": [rng.randrange(5, 50) for _ in range(rng.randint(3, 9))], "label": rng.choice("ab")} for _
             in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config(folder, model, rows, *, name="c.yaml", of_model="", of_train="", backend="graph"):
    """An adapter at a program's own graph."""
    (folder / name).write_text(f"""model: {{path: {model}, backend: {backend}{of_model}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{method: deep-lora, rank: 2, targets: all-linear}}
train: {{steps: {STEPS}, batch_size: 4, lr: 0.01, log_every: 1, eval_every: 2, seed: 3{of_train}}}
""")
    return folder / name


def losses(folder):
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [metric["loss"] for metric in metrics if "loss" in metric]


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(run, rows, tiny_program, tmp_path):
    """Dropout is on: its random numbers go on where they stopped, too."""
    run("finetune", config(tmp_path, tiny_program("bert", "encoder"), rows, of_train=", save_every: 2"), "--run",
        tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    checkpoints = sorted((tmp_path / "stopped/checkpoints").iterdir(),
                         key=lambda path: int(path.name.partition("-")[2]))
    assert len(checkpoints) >= 2
    shutil.rmtree(checkpoints[-1])
    for name in ("result.json", "last.safetensors"):
        (tmp_path / "stopped" / name).unlink(missing_ok=True)
    run("finetune", "--resume", "--run", tmp_path / "stopped")
    for name in ("adapter.safetensors", "last.safetensors"):
        whole, stopped = load_file(tmp_path / "whole" / name), load_file(tmp_path / "stopped" / name)
        assert whole.keys() == stopped.keys() and all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_two_processes_train_what_one_trains(program, run, rows, tiny_program, tmp_path):
    path = config(tmp_path, tiny_program("bert", "encoder"), rows, of_model=", dropout: 0")
    path.write_text(path.read_text() + "head: {dropout: 0}\n")
    run("finetune", path, "--run", tmp_path / "one")
    together(program, 2, "finetune", path, "--run", tmp_path / "two")
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-6


def test_it_is_compared(run, rows, tiny_program, tmp_path):
    path = config(tmp_path, tiny_program("bert", "encoder"), rows)
    path.write_text(path.read_text().replace(", seed: 3", "").replace(f"dev: {rows}", f"dev: {rows}, test: {rows}")
                    + "compare: {seeds: [1], methods: [{name: a, adapter: {method: lora, rank: 2}}, {name: b, adapter: "
                      "{method: none}}], baseline: a}\n")
    run("compare", path, "--run", tmp_path / "run")
    found = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert len(found) == 2 and {row["method"] for row in found} == {"a", "b"} and all(row["test_scores"] for row
        in found), found


@pytest.mark.parametrize("precision", ["float32", "bfloat16-always"])
def test_it_trains_as_the_same_models_torchscript_does(precision, run, rows, tiny_archive, tiny_program, tmp_path):
    curves = []
    for model in (tiny_archive("bert", "encoder"), tiny_program("bert", "encoder")):
        folder = tmp_path / model.suffix[1:]
        run("finetune", config(tmp_path, model, rows, of_model=f", dropout: 0, precision: {precision}"), "--run",
            folder, "--set", "head.dropout=0")
        curves.append(losses(folder))
    assert len(curves[0]) == STEPS and curves[1] == pytest.approx(curves[0], rel=1e-4 if precision == "float32"
        else 3e-2)


def test_its_weights_in_few_bits_are_the_archives(run, rows, tiny_archive, tiny_program, tmp_path):
    curves = []
    for model in (tiny_archive("bert", "encoder"), tiny_program("bert", "encoder")):
        folder = tmp_path / model.suffix[1:]
        run("finetune", config(tmp_path, model, rows, of_model=", dropout: 0, quantize: nf4", backend="native"),
            "--run", folder, "--set", "head.dropout=0")
        curves.append(losses(folder))
    assert len(curves[0]) == STEPS and curves[1] == pytest.approx(curves[0], rel=1e-5)
    said = run("finetune", config(tmp_path, model, rows, of_model=", quantize: nf4"), "--run", tmp_path / "graph",
               code=1).stderr
    assert said.count("error: ") == 1 and "model.quantize" in said and "native" in said
    run("export", tmp_path / "pt2", "--output", tmp_path / "merged.pt2")
    merged, before = (torch.export.load(path).state_dict for path in (tmp_path / "merged.pt2",
        tiny_program("bert", "encoder")))
    changed = [name for name in before if not torch.equal(merged[name], before[name])]
    assert changed and all(merged[name].dtype == torch.float32 for name in changed)  # delta on the file's own weights
    assert max((merged[name] - before[name]).abs().max().item() for name in changed) < 0.2
