"""Rows with any number of labels. Oracles: scikit-learn's scores, transformers' loss, thresholds by trying all."""
from __future__ import annotations

import json
import random

import numpy
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from test_distributed import together
from test_first_minutes import text

LABELS = ["cold", "late", "rude"]


def drawn(count, seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        labels = [label for label in LABELS if rng.random() < 0.4]
        rows.append({"text": " ".join([text(rng), *labels]), "label": labels})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    return {split: write(folder / f"{split}.jsonl", drawn(count, seed)) for seed, (split, count)
            in enumerate({"train": 80, "dev": 40, "test": 40}.items())}


@pytest.fixture(scope="module")
def train(run, files, tiny_archive, tmp_path_factory):
    def call(*sets, steps=8, model=None, code=0, folder=None):
        folder = folder or tmp_path_factory.mktemp("run") / "run"
        done = run("finetune", "--model", model or tiny_archive("bert", "encoder"), "--task", "multi-label",
                   *[f"--{k}={v}" for k, v in files.items()], "--steps", steps, "--run", folder,
                   *[part for one in ("data.max_length=24", "train.batch_size=8", "train.eval_every=4", "train.lr=1e-2",
                                      *sets) for part in ("--set", one)], code=code)
        return folder if code == 0 else done.stderr
    return call


@pytest.fixture(scope="module")
def trained(train):
    return train()


def predictions(run, model, file):
    return [json.loads(line) for line in run("predict", model, "--input", file).stdout.splitlines()]


def table(lists):
    return numpy.array([[label in labels for label in LABELS] for labels in lists]).astype(int)


def expected_of(file):
    return table(json.loads(line)["label"] for line in file.read_text().splitlines())


def probabilities_of(found):
    return numpy.array([[one["probabilities"][label] for label in LABELS] for one in found])


def test_scores_are_scikit_learns_and_the_loss_is_that_of_transformers(trained, run, files):
    found, expected = predictions(run, trained, files["test"]), expected_of(files["test"])
    scores = json.loads(run("evaluate", trained, "--json").stdout)
    predicted, probabilities = table(one["prediction"] for one in found), probabilities_of(found)
    assert (predicted == (probabilities >= 0.5)).all()
    assert scores["micro_f1"] == pytest.approx(f1_score(expected, predicted, average="micro"), abs=1e-9)
    assert scores["macro_f1"] == pytest.approx(f1_score(expected, predicted, average="macro"), abs=1e-9)
    assert scores["subset_accuracy"] == pytest.approx(accuracy_score(expected, predicted), abs=1e-9)
    assert scores["map"] == pytest.approx(average_precision_score(expected, probabilities, average="macro"), abs=1e-9)
    logits = torch.tensor([one["logits"] for one in found], dtype=torch.float64)
    assert scores["loss"] == pytest.approx(torch.nn.BCEWithLogitsLoss()(logits, torch.tensor(expected,
        dtype=torch.float64)).item(), abs=1e-9)
    for i, label in enumerate(LABELS):
        assert scores["per_label"][label]["support"] == expected[:, i].sum()
        assert (scores["per_label"][label]["f1"] or 0) == pytest.approx(f1_score(expected[:, i], predicted[:, i],
            zero_division=0), abs=1e-9)
    assert json.loads((trained / "result.json").read_text())["test"]["micro_f1"] == pytest.approx(scores["micro_f1"],
        abs=1e-9)


@pytest.mark.parametrize("metric, average", [("micro_f1", "micro"), ("macro_f1", "macro")])
def test_the_threshold_is_the_best_on_dev_and_travels(metric, average, train, run, files, tmp_path):
    folder = train("data.threshold=auto", f"data.metric={metric}", "data.class_weights={late: 3}")
    result = json.loads((folder / "result.json").read_text())
    found, expected = predictions(run, folder, files["dev"]), expected_of(files["dev"])
    probabilities = probabilities_of(found)
    best = max(f1_score(expected, probabilities >= t, average=average, zero_division=0) for t
               in [0, 0.5, *probabilities.flatten()])
    chosen = result.get("threshold", 0.5)
    assert result["best_decided"][metric] == pytest.approx(best, abs=1e-9)
    assert (table(one["prediction"] for one in found) == (probabilities >= chosen)).all()
    run("export", folder, "--to", "torchscript", "--output", tmp_path / "merged.pt")
    merged = predictions(run, tmp_path / "merged.pt", files["test"])
    assert (table(one["prediction"] for one in merged) == (probabilities_of(merged) >= chosen)).all()


def test_both_backends_agree(train, run, files):
    native, graph = (predictions(run, train("model.backend=" + backend, "model.dropout=0", "head.dropout=0"),
                                 files["test"]) for backend in ("native", "graph"))
    assert numpy.abs(probabilities_of(native) - probabilities_of(graph)).max() < 1e-3


def test_a_killed_run_ends_with_the_same_bits(train, run):
    whole, other = train("train.save_every=2"), train("train.save_every=2")
    for name in ("result.json", "last.safetensors", "adapter.safetensors"):
        (other / name).unlink()
    newest = max((other / "checkpoints").iterdir())
    for file in sorted(newest.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    newest.rmdir()
    run("finetune", "--run", other, "--resume")
    assert (other / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()
    assert (other / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()


def test_accumulated_and_shared_steps_are_the_same_with_weights(train, program, files, tiny_archive, tmp_path):
    sets = ("data.class_weights=balanced", "train.shuffle=false", "train.group_by_length=false", "model.dropout=0",
            "head.dropout=0", "train.optimizer=sgd", "train.momentum=0")
    whole, cut = (load_file(train(*sets, "train.batch_size=" + size, "train.accumulate=" + times) / "last.safetensors")
                  for size, times in (("8", "1"), ("2", "4")))
    shared = tmp_path / "shared"
    together(program, 2, "finetune", "--model", tiny_archive("bert", "encoder"), "--task", "multi-label",
             *[f"--{k}={v}" for k, v in files.items()], "--steps", 8, "--run", shared,
             *[part for one in ("data.max_length=24", "train.eval_every=4", "train.lr=1e-2", "train.batch_size=8",
                                *sets) for part in ("--set", one)])
    for other in (cut, load_file(shared / "last.safetensors")):
        assert max((whole[name] - other[name]).abs().max().item() for name in whole) < 1e-5


def test_texts_are_cut_and_lists_may_stand_in_tables(train, run, files, tmp_path, tiny_archive):
    lists = [json.loads(line) for line in files["train"].read_text().splitlines()]
    runs = []
    for name, separator, cell in (("bar", "|", lambda labels: " | ".join(labels)),
                                  ("json", ",", lambda labels: '"' + json.dumps(labels).replace('"', '""') + '"')):
        path = tmp_path / f"{name}.csv"
        path.write_text("text,label\n" + "".join(f"{row['text']},{cell(row['label'])}\n" for row in lists))
        run("finetune", "--model", tiny_archive("bert", "encoder"), "--task", "multi-label", "--train", path, "--steps",
            2, "--run", tmp_path / name,
            "--set", f"data.label_separator={json.dumps(separator)}", "--set", "data.dev_share=0")
        assert json.loads((tmp_path / name / "task.json").read_text())["state"]["labels"] == LABELS
        runs.append((tmp_path / name / "last.safetensors").read_bytes())
    assert runs[0] == runs[1]


def test_transformers_opens_the_folder(train, run, files, tiny_folder, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    folder = train("head.type=huggingface", model=tiny_folder("bert"))
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged").eval(), AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert model.config.problem_type == "multi_label_classification" and [model.config.id2label[i] for i
        in range(3)] == LABELS
    found = predictions(run, folder, files["test"])
    for line, one in zip(files["test"].read_text().splitlines()[:8], found):
        with torch.no_grad():
            logits = model(**tokenizer(json.loads(line)["text"], return_tensors="pt", truncation=True,
                                       max_length=24)).logits[0]
        assert logits.tolist() == pytest.approx(one["logits"], abs=1e-4)


def test_a_table_of_predictions_has_a_column_a_label(trained, run, files, tmp_path):
    run("predict", trained, files["test"], "--output", tmp_path / "out.csv")
    header, first = (tmp_path / "out.csv").read_text().splitlines()[:2]
    assert header == "prediction,probability of cold,probability of late,probability of rude"
    assert first.startswith("[") or first.startswith('"[')


def test_comparisons_judge_by_it(run, files, tiny_archive, tmp_path):
    named = ", ".join(f"{split}: {file}" for split, file in files.items())
    (tmp_path / "compare.yaml").write_text(f"""model: {{path: {tiny_archive("bert", "encoder")}}}
data: {{task: multi-label, {named}, max_length: 24}}
adapter: {{targets: query-value}}
train: {{steps: 2, batch_size: 8}}
compare: {{seeds: 1, methods: [{{name: LoRA, adapter: {{method: lora, rank: 2}}, lr: [1e-3]}}, {{name: head only, adapter: {{method: none}}}}]}}
""")  # noqa: E501
    assert "micro_f1" in run("compare", tmp_path / "compare.yaml", "--run", tmp_path / "run").stdout.splitlines()[0]
