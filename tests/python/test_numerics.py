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
    path.write_text("".join(json.dumps({"text": " ".join(t), "label": len(t) / 10, "prompt": t[0], "completion": " " + t[1]}) + "\n" for t in texts))
    return path


def configuration(folder, archive, rows, adapter, train, task="regression", model=""):
    path = folder / "config.yaml"
    path.write_text(f"model: {{path: {archive}{model}}}\ndata: {{task: {task}, train: {rows}, dev: {rows}, max_length: 24}}\n"
                    f"adapter: {{{adapter}}}\ntrain: {{batch_size: 8, seed: 5, {train}}}\n")
    return path


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_archives_train_and_merge_with_one_rounding_and_ties_stay(dtype, method, run, rows, tiny_folder, tmp_path):
    archive, merged = tmp_path / "model.pt", tmp_path / "merged.pt"
    export_torchscript.export(str(tiny_folder("gpt2")), str(archive), dtype=dtype)
    adapter = "method: lora, rank: 2, alpha: 8, targets: 're:.*'" if method == "lora" else "method: full"
    run("finetune", configuration(tmp_path, archive, rows, adapter, "steps: 6, lr: 0.01, log_every: 1", "causal-lm"), "--run", tmp_path / "run")
    curve = [json.loads(line).get("loss") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    curve = [loss for loss in curve if loss is not None]
    assert len(curve) == 6 and curve[-1] < curve[0]
    said = run("export", tmp_path / "run", "--to", "torchscript", "--output", merged).stdout
    rounding = float(said.split("rounding at most ")[1].split(";")[0])
    before, after = (torch.jit.load(str(path)) for path in (archive, merged))
    old, new = before.state_dict(), after.state_dict()
    assert {name: value.dtype for name, value in new.items()} == {name: value.dtype for name, value in old.items()}
    tables = [name for name in new if name.endswith(("wte.weight", "lm_head.weight"))]
    assert len(tables) == 2 and torch.equal(new[tables[0]], new[tables[1]]) and not torch.equal(new[tables[0]], old[tables[0]])
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
        torch.testing.assert_close(new[path].float(), exact, rtol=2.0 ** (-8 if dtype == "bfloat16" else -11) * 1.001, atol=1e-7)
        largest = max(largest, (new[path].float() - exact).abs().max().item())
    assert rounding == pytest.approx(largest, rel=1e-2) and rounding > 0


@pytest.mark.parametrize("name, task", [("bert", "regression"), ("distilbert", "regression"), ("roberta", "regression"), ("llama", "causal-lm")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_of_other_families_merges_with_one_rounding(dtype, name, task, run, rows, tiny_folder, tmp_path):
    archive, merged = tmp_path / "model.pt", tmp_path / "merged.pt"
    export_torchscript.export(str(tiny_folder(name)), str(archive), dtype=dtype)
    path = configuration(tmp_path, archive, rows, "method: lora, rank: 2, alpha: 8, targets: all-linear", "steps: 4, lr: 0.01", task)
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", merged)
    old, new = (torch.jit.load(str(path)).state_dict() for path in (archive, merged))
    factors = load_file(tmp_path / "run" / "adapter.safetensors")
    paths = {key.split("/")[1] for key in factors if key.startswith("adapter/")}
    assert len(paths) >= 6
    for path in paths:
        delta = 4.0 * (factors[f"adapter/{path}/B"].float() @ factors[f"adapter/{path}/A"].float())
        before, after = (next(value for key, value in state.items() if key.endswith(path.removeprefix("model."))) for state in (old, new))
        assert delta.abs().max() > 0 and after.dtype == before.dtype == getattr(torch, dtype)
        torch.testing.assert_close(after.float(), before.float() + delta, rtol=2.0 ** (-8 if dtype == "bfloat16" else -11) * 1.001, atol=1e-7)


def test_a_run_that_leaves_the_finite_numbers_names_step_place_and_checkpoint(run, rows, tiny_archive, tmp_path):
    folder = tmp_path / "run"
    path = configuration(tmp_path, tiny_archive("bert", "encoder"), rows, "method: lora, rank: 2",
                         "steps: 40, lr: 1e10, clip: 0, warmup: 30, save_every: 1, schedule: linear")
    error = run("finetune", path, "--run", folder, code=1).stderr.splitlines()[-1]
    assert error.startswith("error: ") and "step " in error and "lower train.lr" in error
    assert any(word in error for word in ("first parameter concerned: adapter/", "already not finite: adapter/", "holds a value that is not finite"))
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
def test_the_same_count_of_threads_gives_the_same_bits_and_any_count_the_same_losses(backend, run, rows, tiny_archive, tmp_path):
    path = configuration(tmp_path, tiny_archive("bert", "encoder"), rows, "method: deep-lora, rank: 4", "steps: 8, log_every: 1, lr: 1e-3",
                         model=f", backend: {backend}")
    two = last(run, tmp_path / "a", path, threads=2)
    assert last(run, tmp_path / "b", path, "train.threads=2", threads=1) == two, "train.threads and OMP_NUM_THREADS mean the same"
    one = last(run, tmp_path / "c", path, "train.threads=1")
    assert one[1] == pytest.approx(two[1], rel=1e-5)
