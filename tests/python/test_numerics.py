"""Values that are not finite, half precision, and the bits of a run: what docs/reliability.md promises."""
from __future__ import annotations

import json
import os
import random

import pytest
import torch
from safetensors.torch import load_file

import export_torchscript

WORDS = "good bad fine awful great poor nice sad happy broken works fails love hate".split()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("numerics") / "rows.jsonl", random.Random(3)
    texts = [[rng.choice(WORDS) for _ in range(rng.randint(3, 9))] for _ in range(32)]
    path.write_text("".join(json.dumps({"text": " ".join(t), "label": len(t) / 10, "prompt": t[0], "completion": " "
                                        + t[1]}) + "\n" for t in texts))
    return path


def configuration(folder, archive, rows, adapter, train, task="regression", model=""):
    path = folder / "config.yaml"
    path.write_text(f"model: {{path: {archive}{model}}}\ndata: {{task: {task}, train: {rows}, dev: {rows}, max_length: "
                    f"24}}\n"
                    f"adapter: {{{adapter}}}\ntrain: {{batch_size: 8, seed: 5, {train}}}\n")
    return path


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_archives_train_and_merge_with_one_rounding_and_ties_stay(dtype, method, run, rows, tiny_folder,
        tmp_path):
    archive, merged = tmp_path / "model.pt", tmp_path / "merged.pt"
    export_torchscript.export(str(tiny_folder("gpt2")), str(archive), dtype=dtype)
    adapter = "method: lora, rank: 2, alpha: 8, targets: 're:.*'" if method == "lora" else "method: full"
    run("finetune", configuration(tmp_path, archive, rows, adapter, "steps: 6, lr: 0.01, log_every: 1", "causal-lm"),
        "--run", tmp_path / "run")
    curve = [json.loads(line).get("loss") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    curve = [loss for loss in curve if loss is not None]
    assert len(curve) == 6 and curve[-1] < curve[0]
    said = run("export", tmp_path / "run", "--to", "torchscript", "--output", merged).stdout
    rounding = float(said.split("rounding at most ")[1].split(";")[0])
    before, after = (torch.jit.load(str(path)) for path in (archive, merged))
    old, new = before.state_dict(), after.state_dict()
    assert {name: value.dtype for name, value in new.items()} == {name: value.dtype for name, value in old.items()}
    tables = [name for name in new if name.endswith(("wte.weight", "lm_head.weight"))]
    assert len(tables) == 2 and torch.equal(new[tables[0]], new[tables[1]]) and not torch.equal(new[tables[0]],
        old[tables[0]])
    if method == "full":
        return
    factors = load_file(tmp_path / "run" / "adapter.safetensors")
    largest = 0.0
    for path in {name.split("/")[1] for name in factors}:
        a, b = (factors[f"adapter/{path}/{name}"].float() for name in "AB")
        delta = 4.0 * (b @ a)
        table = any(word in path for word in ("wte", "wpe", "lm_head"))  # other weights of GPT-2 are stored [in, out]
        exact = old[path].float() + (delta if table else delta.t())
        # One rounding of the float32 sum: at most half a step of the archive's precision, however small the update.
        torch.testing.assert_close(new[path].float(), exact, rtol=2.0 ** (-8 if dtype == "bfloat16" else -11) * 1.001,
                                   atol=1e-7)
        largest = max(largest, (new[path].float() - exact).abs().max().item())
    assert rounding == pytest.approx(largest, rel=1e-2) and rounding > 0


@pytest.mark.parametrize("name, task", [("bert", "regression"), ("distilbert", "regression"), ("roberta", "regression"),
                                        ("llama", "causal-lm")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_of_other_families_merges_with_one_rounding(dtype, name, task, run, rows, tiny_folder, tmp_path):
    archive, merged = tmp_path / "model.pt", tmp_path / "merged.pt"
    export_torchscript.export(str(tiny_folder(name)), str(archive), dtype=dtype)
    path = configuration(tmp_path, archive, rows, "method: lora, rank: 2, alpha: 8, targets: all-linear",
                         "steps: 4, lr: 0.01", task)
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", merged)
    old, new = (torch.jit.load(str(path)).state_dict() for path in (archive, merged))
    factors = load_file(tmp_path / "run" / "adapter.safetensors")
    paths = {key.split("/")[1] for key in factors if key.startswith("adapter/")}
    assert len(paths) >= 6
    for path in paths:
        delta = 4.0 * (factors[f"adapter/{path}/B"].float() @ factors[f"adapter/{path}/A"].float())
        before, after = (next(value for key, value in state.items() if key.endswith(path.removeprefix("model.")))
                         for state in (old, new))
        assert delta.abs().max() > 0 and after.dtype == before.dtype == getattr(torch, dtype)
        torch.testing.assert_close(after.float(), before.float() + delta, rtol=2.0 ** (-8 if dtype == "bfloat16"
            else -11) * 1.001, atol=1e-7)


def curve_of(run, folder, archive, rows, adapter, train, task="regression", model=""):
    folder.mkdir()
    path = configuration(folder, archive, rows, adapter, f"log_every: 1, {train}", task, model)
    run("finetune", path, "--run", folder / "run")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("classes") / "rows.jsonl", random.Random(3)
    texts = [[rng.choice(WORDS) for _ in range(rng.randint(3, 9))] for _ in range(16)]
    path.write_text("".join(json.dumps({"text": " ".join(t), "label": t.count("good") % 2}) + "\n" for t in texts))
    return path


@pytest.mark.parametrize("adapter", ["method: none", "method: lora, rank: 2, targets: all-linear", "method: full"])
@pytest.mark.parametrize("name", ["bert", "electra"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_precision_archive_learns_by_its_own_graph_as_in_float32(dtype, name, adapter, run, classes, tiny_folder,
        tiny_archive, tmp_path):
    """The head is the archive's own: in float16 its second step of Adam was NaN, in bfloat16 most steps of `full` were
    rounded away."""
    archive = tmp_path / "model.pt"
    export_torchscript.export(str(tiny_folder(name)), str(archive), "classifier", 2, dtype=dtype)
    train, model = "steps: 25, lr: 0.0005, schedule: constant", ", backend: graph, dropout: 0.0"
    half = curve_of(run, tmp_path / "half", archive, classes, adapter, train, "classification", model)
    whole = curve_of(run, tmp_path / "whole", tiny_archive(name, "classifier", 2), classes, adapter, train,
                     "classification", model)
    assert len(half) == 25 and half == pytest.approx(whole, abs=0.03 if dtype == "bfloat16" else 0.01)


def test_full_fine_tuning_of_a_bfloat16_archive_moves_every_weight_on_both_backends(run, classes, tiny_folder,
        tmp_path):
    archive = tmp_path / "model.pt"
    export_torchscript.export(str(tiny_folder("bert")), str(archive), "classifier", 2, dtype="bfloat16")
    curves, moved = {}, {}
    before = torch.jit.load(str(archive)).state_dict()
    for backend in ("native", "graph"):
        train = "steps: 60, lr: 5.0e-5, schedule: constant"
        curves[backend] = curve_of(run, tmp_path / backend, archive, classes, "method: full", train, "classification",
                                   f", backend: {backend}, dropout: 0.0")
        run("export", tmp_path / backend / "run", "--to", "torchscript", "--output", tmp_path / f"{backend}.pt")
        after = torch.jit.load(str(tmp_path / f"{backend}.pt")).state_dict()
        moved[backend] = sum((after[key] != value).sum().item() for key, value in before.items())
        assert all(after[key].dtype == value.dtype for key, value in before.items())
        trained = load_file(tmp_path / backend / "run" / "last.safetensors")
        assert all(value.dtype == torch.float32 for key, value in trained.items() if key.startswith("base/"))
    assert curves["graph"] == pytest.approx(curves["native"], abs=0.02)
    assert curves["native"][-1] < curves["native"][0] - 0.02
    assert moved["graph"] == pytest.approx(moved["native"], rel=0.1) and moved["native"] > 1000


@pytest.mark.parametrize("adapter", ["method: dora, rank: 2, targets: all-linear",
                                     "method: pissa, rank: 2, targets: all-linear", "method: full",
                                     "method: lora, rank: 2, dropout: 0.3, targets: all-linear",
                                     "method: lora, rank: 2, targets: all-linear"])
@pytest.mark.parametrize("name, task", [("bert", "classification"), ("gpt2", "causal-lm"), ("llama", "causal-lm")])
def test_layers_computed_again_in_bfloat16_give_the_same_bits(name, task, adapter, run, rows, classes, tiny_archive,
                                                              tmp_path):
    archive = tiny_archive(name, "classifier" if name == "bert" else None, 2 if name == "bert" else None)
    curves = [curve_of(run, tmp_path / again, archive, classes if name == "bert" else rows, adapter,
                       f"steps: 8, lr: 0.01, gradient_checkpointing: {again}", task,
                       ", precision: bfloat16-always") for again in ("false", "true")]
    assert len(set(curves[0])) > 1 and curves[0] == curves[1]


def test_a_run_that_leaves_the_finite_numbers_names_step_place_and_checkpoint(run, rows, tiny_archive, tmp_path):
    folder = tmp_path / "run"
    path = configuration(tmp_path, tiny_archive("bert", "encoder"), rows, "method: lora, rank: 2",
                         "steps: 40, lr: 1e10, clip: 0, warmup: 30, save_every: 1, schedule: linear")
    error = run("finetune", path, "--run", folder, code=1).stderr.splitlines()[-1]
    assert error.startswith("error: ") and "step " in error and "lower train.lr" in error
    assert any(word in error for word in ("first parameter concerned: adapter/", "already not finite: adapter/",
                                          "holds a value that is not finite"))
    named = error.split("last good checkpoint: ")[1].split(";")[0]
    assert named == str(folder / "checkpoints" / sorted(os.listdir(folder / "checkpoints"))[-1])
    for file in folder.rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(file).values()), file


def last(run, folder, path, *sets, threads=None):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    run("finetune", path, "--run", folder, *[part for one in sets for part in ("--set", one)], env=environment)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return (folder / "last.safetensors").read_bytes(), [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("backend", ["native", "graph"])
def test_the_same_count_of_threads_gives_the_same_bits_and_any_count_the_same_losses(backend, run, rows, tiny_archive,
        tmp_path):
    path = configuration(tmp_path, tiny_archive("bert", "encoder"), rows, "method: deep-lora, rank: 4",
                         "steps: 8, log_every: 1, lr: 1e-3",
                         model=f", backend: {backend}")
    two = last(run, tmp_path / "a", path, threads=2)
    assert last(run, tmp_path / "b", path, "train.threads=2",
                threads=1) == two, "train.threads and OMP_NUM_THREADS mean the same"
    one = last(run, tmp_path / "c", path, "train.threads=1")
    assert one[1] == pytest.approx(two[1], rel=1e-5)
