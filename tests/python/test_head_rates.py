"""Learning rates of heads: a new one at head_lr, the model's own at lr, with method none at lr, seen by how far Adam
moves them."""
from __future__ import annotations

import json

import pytest

STEPS = 4


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    words = "good bad fine awful great poor".split()
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as out:
        for i in range(24):
            out.write(json.dumps({"text": f"{words[i % 6]} {words[(i * 5 + 1) % 6]}", "label": "abc"[i % 3]}) + "\n")
    return folder / "rows.jsonl"


@pytest.fixture()
def moved(run, tiny_archive, labels, tmp_path):
    """moved("classifier", ...): the largest movement of the head and of all else in four steps of Adam, whose steps are
    near the rate."""
    from safetensors.torch import load_file
    import torch

    def call(task, *sets):
        archive = tiny_archive("bert", task, 3 if task == "classifier" else None)
        states = []
        for steps in (0, STEPS):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            config = tmp_path / "config.yaml"
            config.write_text(f"model: {{path: {archive}}}\ndata: {{task: classification, train: {labels}, dev: "
                              f"{labels}}}\n"
                              f"train: {{steps: {steps}, batch_size: 8, schedule: constant, keep: last, eval_every: "
                              f"{STEPS}}}\n")
            run("finetune", config, "--run", folder, *[part for s in sets for part in ("--set", s)])
            states.append(load_file(folder / "adapter.safetensors"))
        start, end = states
        assert start.keys() == end.keys()
        distance = {name: (end[name] - start[name]).abs().max().item() for name in end}
        head = [d for name, d in distance.items() if name.startswith("head/") or "classifier" in name]
        rest = [d for name, d in distance.items() if not (name.startswith("head/") or "classifier" in name)]
        assert head
        return max(head), max(rest, default=0.0)

    return call


def near(distance, lr):
    return 0.5 * lr < distance < 1.5 * STEPS * lr


def test_the_models_own_head_learns_at_lr(moved):
    head, rest = moved("classifier", "adapter={method: full}", "train.lr=1e-5")
    assert near(head, 1e-5) and near(rest, 1e-5), (head, rest)


def test_head_lr_is_for_the_models_own_head_too(moved):
    head, rest = moved("classifier", "adapter={method: full}", "train.lr=1e-5", "train.head_lr=1e-3")
    assert near(head, 1e-3) and near(rest, 1e-5), (head, rest)


def test_a_new_head_learns_at_head_lr(moved):
    head, rest = moved("encoder", "adapter={method: full}", "train.lr=1e-5")
    assert near(head, 5e-3) and near(rest, 1e-5), (head, rest)
    head, _ = moved("encoder", "adapter={method: full}", "train.lr=1e-5", "train.head_lr=1e-4")
    assert near(head, 1e-4)


@pytest.mark.parametrize("task", ["encoder", "classifier"])
def test_with_method_none_the_head_learns_at_lr(moved, task):
    for sets, lr in ((["train.lr=1e-6"], 1e-6), (["train.lr=1e-1"], 1e-1), (["train.head_lr=1e-4"], 1e-4), ([], 5e-3)):
        head, _ = moved(task, "adapter={method: none}", *sets)
        assert near(head, lr), (sets, head)
