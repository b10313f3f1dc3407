"""Rows that bring token ids along, and regression targets far from zero. Oracles: transformers on the same ids, one row
at a time; the same targets moved to zero."""
from __future__ import annotations

import json
import random

import numpy
import pytest
import torch
import yaml
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

import export_torchscript

BACKENDS = ["native", "graph"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def finetune(run, folder, archive, data, train, adapter=None, code=0, **model):
    settings = {"model": {"path": str(archive), **model}, "data": data, "adapter": adapter or {"method": "none"},
                "train": {"seed": 3, **train}}
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    return run("finetune", config, "--run", folder, code=code)


def padded(rng, ids, low, high, side):
    """The row as a collator leaves it: ids of the padding and the mask, on either side."""
    pad = [rng.randrange(low, high) for _ in range(rng.randrange(4))]
    before = pad if side == "left" else []
    after = pad if side == "right" else []
    return {"input_ids": before + ids + after, "attention_mask": [0] * len(before) + [1] * len(ids) + [0]
            * len(after)}, len(before), len(after)


def causal_loss(model, rows):
    """Mean of -log p over what is learnt, every row alone and without padding."""
    total = count = 0
    for ids, labels in rows:
        labels = torch.tensor([labels])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=labels).loss
        n = int((labels[:, 1:] != -100).sum())
        total, count = total + (float(loss) * n if n else 0), count + n
    return total / count


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("own_labels", [False, True])
def test_masks_of_causal_rows_hide_padding_and_labels_stay_with_their_rows(name, backend, own_labels, run, tiny_folder,
        tiny_archive, tmp_path):
    rng = random.Random(f"{name}{own_labels}")
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(name)).eval()
    rows, bare = [], []
    for i in range(24):
        ids = [rng.randrange(5, 60) for _ in range(rng.randint(2, 9))]
        row, before, after = padded(rng, ids, 5, 60, ["left", "right"][i % 2])
        labels = list(ids)
        if own_labels:
            labels = [t if rng.random() < 0.6 else -100 for t in ids]
            labels[-1] = ids[-1]
            row["labels"] = [-100] * before + labels + [-100] * after
        rows.append(row)
        bare.append((ids, labels))
    path = str(write(tmp_path / "rows.jsonl", rows))
    # Rows with labels of their own are never packed, whatever `pack` says.
    data = {"task": "causal-lm", "train": path, "dev": path, "max_length": 16, "pack": own_labels}
    finetune(run, tmp_path / "run", tiny_archive(name), data, {"steps": 0}, backend=backend)
    done = json.loads(run("evaluate", tmp_path / "run", "--json").stdout)
    assert done["loss"] == pytest.approx(causal_loss(model, bare), rel=2e-6)


def test_the_first_token_of_a_row_of_ids_is_not_learnt_from_the_row_before(run, tiny_folder, tiny_archive, tmp_path):
    """Packed rows without labels: blocks as transformers reads them, the first token of every row left out of the
    loss."""
    rng = random.Random(4)
    rows = [[rng.randrange(5, 60) for _ in range(rng.randint(2, 9))] for _ in range(20)]
    path = str(write(tmp_path / "rows.jsonl", [{"input_ids": ids} for ids in rows]))
    finetune(run, tmp_path / "run", tiny_archive("gpt2"), {"task": "causal-lm", "train": path, "dev": path,
                                                           "max_length": 16}, {"steps": 0})
    ids = [token for row in rows for token in row]
    labels = [-100 if i == 0 else token for row in rows for i, token in enumerate(row)]
    blocks = [(ids[i:i + 16], labels[i:i + 16]) for i in range(0, len(ids), 16)]
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("gpt2")).eval()
    assert json.loads(run("evaluate", tmp_path / "run", "--json").stdout)["loss"] == pytest.approx(causal_loss(model,
        blocks), rel=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_of_sources_hide_padding(backend, run, tiny_folder, tiny_archive, tmp_path):
    rng = random.Random(6)
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_folder("t5")).eval()
    rows, total, count = [], 0.0, 0
    for i in range(16):
        ids, labels = [[rng.randrange(5, 60) for _ in range(rng.randint(1, 7))] for _ in range(2)]
        rows.append({**padded(rng, ids, 5, 60, ["left", "right"][i % 2])[0], "labels": labels})
        with torch.no_grad():
            total += float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss) * len(labels)
        count += len(labels)
    path = str(write(tmp_path / "rows.jsonl", rows))
    finetune(run, tmp_path / "run", tiny_archive("t5"), {"task": "seq2seq", "train": path, "dev": path}, {"steps": 0},
             backend=backend)
    assert json.loads(run("evaluate", tmp_path / "run", "--json").stdout)["loss"] == pytest.approx(total / count,
        rel=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_padding_on_either_side_and_gaps_pool_as_the_model_gives_them(name, pooling, backend, run, tiny_folder,
        tiny_archive, tmp_path):
    """A new head is linear in the pooled state: least squares finds it from some rows, the other rows must follow
    it."""
    rng = random.Random(pooling)
    model = AutoModel.from_pretrained(tiny_folder(name)).eval()
    rows, pooled = [], []
    for i in range(60):
        ids = [rng.randrange(5, 60) for _ in range(rng.randint(1, 9))]
        mask = [1] + [int(rng.random() < 0.8) for _ in ids[1:]] if name == "bert" and i % 3 == 2 else [1] * len(ids)
        while mask[-1] == 0:
            ids, mask = ids[:-1], mask[:-1]
        pad = [rng.randrange(5, 60) for _ in range(rng.randrange(4))]
        row = {"input_ids": pad + ids, "attention_mask": [0] * len(pad) + mask} if i % 2 else {"input_ids": ids + pad,
            "attention_mask": mask + [0] * len(pad)}
        rows.append({**row, "label": i % 7 - 2.5})
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask])).last_hidden_state[
                0].double()
        kept = hidden[torch.tensor(mask).bool()]
        pooled.append({"mean": kept.mean(0), "max": kept.amax(0), "cls": hidden[0], "last": kept[-1]}[pooling].numpy())
    path = write(tmp_path / "rows.jsonl", rows)
    finetune(run, tmp_path / "run", tiny_archive(name, "encoder"), {"task": "regression", "train": str(path)},
             {"steps": 0}, backend=backend,
             pooling=pooling)
    found = numpy.array([json.loads(line)["prediction"] for line in run("predict", tmp_path / "run", "--input",
        path).stdout.splitlines()])
    states = numpy.column_stack([numpy.array(pooled), numpy.ones(len(rows))])
    fit = numpy.linalg.lstsq(states[:44], found[:44], rcond=None)[0]
    assert numpy.abs(states @ fit - found).max() < 2e-4 * numpy.abs(found - found.mean()).max()


GOOD = {"input_ids": [5, 6, 7], "label": 1.0}
BAD_ROWS = {
    "a mask of 2": ({"attention_mask": [1, 2, 1]}, "attention_mask: expected 1 for a token and 0 for padding, found 2"),
    "a mask that hides all": ({"attention_mask": [0, 0, 0]}, "attention_mask: all 3 tokens are hidden"),
    "a shorter mask": ({"attention_mask": [1, 1]}, "attention_mask: expected 3 values as in input_ids, found 2"),
    "a mask of fractions": ({"attention_mask": [1, 0.5, 1]},
                            "attention_mask: expected whole numbers from 0, found 0.5"),
    "no ids": ({"input_ids": []}, "input_ids: an empty list"),
    "a negative id": ({"input_ids": [5, -1, 2]}, "input_ids: expected whole numbers from 0, found -1"),
    "an id beyond the vocabulary": ({"input_ids": [5, 100000, 6]}, "100000"),
    "a token type beyond the table": ({"token_type_ids": [0, 1, 9]}, "9"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_no_model_can_read_are_named(name, backend, run, tiny_archive, tmp_path):
    change, words = BAD_ROWS[name]
    good = write(tmp_path / "good.jsonl", [{**GOOD, "label": i} for i in range(8)])
    bad = write(tmp_path / "bad.jsonl", [GOOD, {**GOOD, "label": 2.0}, {**GOOD, **change}, GOOD])
    archive = tiny_archive("bert", "encoder")
    data = {"task": "regression", "train": str(good)}
    finetune(run, tmp_path / "run", archive, data, {"steps": 1}, backend=backend)
    for done in (finetune(run, tmp_path / "other", archive, {**data, "train": str(bad)}, {"steps": 1}, code=1,
                          backend=backend),
                 run("evaluate", tmp_path / "run", "--data", bad, code=1), run("predict", tmp_path / "run", "--input",
                     bad, code=1)):
        assert f"{bad}:3: " in done.stderr and words in done.stderr, done.stderr
        assert "internal fault" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_models_name_ids_and_labels_beyond_the_vocabulary(backend, run, tiny_archive, tmp_path):
    for task, name, row in (("causal-lm", "gpt2", {"input_ids": [5, 99999, 6]}),
                            ("seq2seq", "t5", {"input_ids": [5, 6], "labels": [99999]}),
                            ("causal-lm", "llama", {"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}),
                            ("causal-lm", "llama", {"input_ids": [5, 6], "attention_mask": [1, 0], "labels": [5, 6]})):
        path = write(tmp_path / "rows.jsonl", [{"input_ids": [5, 6], "labels": [5, 6]}, row])
        done = finetune(run, tmp_path / "run", tiny_archive(name), {"task": task, "train": str(path)}, {"steps": 1},
                        {"method": "lora"}, code=1,
                        backend=backend)
        assert f"{path}:2: " in done.stderr and "internal fault" not in done.stderr, done.stderr


@pytest.mark.parametrize("shift", [1e8, 1.7e9, -3e10])
@pytest.mark.parametrize("precision", ["float32", "bfloat16-always"])
def test_targets_far_from_zero_train_as_those_near_it(shift, precision, run, tiny_archive, tmp_path):
    rng = random.Random(2)
    rows = [{"input_ids": [rng.randrange(5, 60) for _ in range(6)], "label": i % 10} for i in range(40)]
    scores = []
    for by in (0.0, shift):
        path = write(tmp_path / f"rows{by}.jsonl", [{**row, "label": row["label"] + by} for row in rows])
        folder = tmp_path / f"run{by}"
        finetune(run, folder, tiny_archive("bert", "encoder"), {"task": "regression", "train": str(path),
                                                                "dev": str(path)}, {"steps": 30},
                 {"method": "lora", "rank": 2}, precision=precision)
        scores.append(json.loads(run("evaluate", folder, "--data", path, "--json").stdout))
        state = json.loads((folder / "task.json").read_text())["state"]
        assert state["spread"] == pytest.approx(numpy.std([row["label"] for row in rows]), rel=1e-12)
        assert state["mean"] == pytest.approx(4.5 + by, rel=1e-15)
    tolerance = 1e-3 if precision == "float32" else 2e-2  # other roundings, 30 steps long
    for score in ("pearson", "mse", "mae"):
        assert scores[1][score] == pytest.approx(scores[0][score], rel=tolerance), score
    assert scores[0]["pearson"] > 0.3


def test_equal_targets_are_found_exactly(run, tiny_archive, tmp_path):
    for value in (0.1, 0.7, 1.7e9, -1e300):
        path = write(tmp_path / "rows.jsonl", [{**GOOD, "label": value}] * 10)
        done = finetune(run, tmp_path / "run", tiny_archive("bert", "encoder"),
                        {"task": "regression", "train": str(path)}, {"steps": 1}, code=1)
        assert "all 10 training rows have the same target" in done.stderr
    path = write(tmp_path / "rows.jsonl", [{**GOOD, "label": value} for value in (1e308, -1e308)])
    done = finetune(run, tmp_path / "run", tiny_archive("bert", "encoder"), {"task": "regression", "train": str(path)},
                    {"steps": 1}, code=1)
    assert "lie too far apart: -1e+308 to 1e+308" in done.stderr, done.stderr
