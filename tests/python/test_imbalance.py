"""Rare classes: the metric that decides, weights of classes, a threshold. Oracles: scikit-learn, and PyTorch's weighted
cross-entropy (in C++)."""
from __future__ import annotations

import json
import random

import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from test_first_minutes import text, write_csv


@pytest.fixture(scope="session")
def rare(tmp_path_factory):
    """Files of 90, 60 and 60 rows, of which one in six is spam, told by its words."""
    folder = tmp_path_factory.mktemp("rare")
    rng = random.Random(9)

    def rows(count):
        return [[text(rng) + (" love" if i % 6 == 0 and i % 4 else ""), "spam" if i % 6 == 0 else "ham"] for i
                in range(count)]

    for split, count in (("train", 90), ("dev", 60), ("test", 60)):
        write_csv(folder / f"{split}.csv", ["text", "label"], rows(count))
    return folder


@pytest.fixture()
def train(run, rare, tiny_archive, tmp_path):
    def call(*sets, name="run", steps=12):
        run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", rare / "train.csv", "--dev",
            rare / "dev.csv", "--test", rare / "test.csv", "--steps", steps,
            "--run", tmp_path / name, *[part for one in ("data.max_length=24", "train.batch_size=8",
                                                         "train.eval_every=2", *sets) for part in ("--set", one)])
        return tmp_path / name, json.loads((tmp_path / name / "result.json").read_text())
    return call


def evaluations(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["eval"] for row in rows if "eval" in row}


@pytest.mark.parametrize("metric, best", [("accuracy", max), ("f1", max), ("matthews", max), ("loss", min)])
def test_the_metric_chooses_the_checkpoint(metric, best, train):
    folder, result = train(f"data.metric={metric}")
    scores = {step: one[metric] for step, one in evaluations(folder).items() if one[metric] is not None}
    assert result["metric"] == metric and result["higher_is_better"] == (best is max)
    assert next(iter(result["best"])) == metric
    assert result["best"][metric] == best(scores.values())
    assert result["best"]["step"] == min(step for step, value in scores.items() if value == best(scores.values()))


def test_a_regression_has_its_metric_too(run, tiny_archive, tmp_path):
    rng = random.Random(3)
    rows = write_csv(tmp_path / "rows.csv", ["text", "label"], [[text(rng), rng.random()] for _ in range(60)])
    run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", rows, "--steps", 6, "--run",
        tmp_path / "run", "--set", "data.metric=mae", "--set", "train.eval_every=2",
        "--set", "data.max_length=24")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metric"] == "mae" and not result["higher_is_better"]
    assert result["best"]["mae"] == min(one["mae"] for one in evaluations(tmp_path / "run").values())


def test_compare_judges_by_the_metric(run, rare, tiny_archive, tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(f"""model: {{path: {tiny_archive("bert", "encoder")}}}
data: {{task: classification, train: {rare}/train.csv, dev: {rare}/dev.csv, test: {rare}/test.csv, max_length: 24, metric: f1}}
adapter: {{targets: query-value}}
train: {{steps: 2, batch_size: 8}}
compare: {{seeds: 1, methods: [{{name: LoRA, adapter: {{method: lora, rank: 2}}, lr: [1e-3, 1e-2]}}, {{name: head only, adapter: {{method: none}}}}]}}
""")  # noqa: E501
    assert "f1" in run("compare", path, "--run", tmp_path / "run").stdout.splitlines()[0]


def test_weights_change_the_training_and_equal_weights_do_not(train):
    plain, _ = train(name="plain")
    equal, _ = train("data.class_weights={ham: 1, spam: 1}", name="equal")
    balanced, _ = train("data.class_weights=balanced", name="balanced")
    counted, _ = train("data.class_weights={ham: 0.6, spam: 3}", name="counted")  # 90 / (2 * 75), 90 / (2 * 15)
    tensors = {folder.name: (folder / "last.safetensors").read_bytes() for folder in (plain, equal, balanced, counted)}
    assert tensors["plain"] == tensors["equal"]
    assert tensors["balanced"] == tensors["counted"]
    assert tensors["plain"] != tensors["balanced"]


@pytest.mark.parametrize("metric, score", [("f1", lambda y, p: f1_score(y, p, pos_label="spam")),
                                           ("accuracy", accuracy_score), ("matthews", matthews_corrcoef)])
def test_the_threshold_is_the_best_on_dev_and_travels(metric, score, train, run, rare, tmp_path):
    folder, result = train(f"data.metric={metric}", "data.threshold=auto", "data.class_weights=balanced")
    labels = {split: [line.rsplit(",", 1)[1] for line in (rare / f"{split}.csv").read_text().splitlines()[1:]] for split
              in ("dev", "test")}
    found = {split: [json.loads(line) for line in run("predict", folder, rare / f"{split}.csv").stdout.splitlines()]
             for split in labels}
    chosen = result.get("threshold", 0.5)
    spam = [one["by_label"]["spam"] for one in found["dev"]]

    def at(threshold, split="dev"):
        return score(labels[split], ["spam" if one["by_label"]["spam"] >= threshold else "ham" for one in found[split]])

    assert at(chosen) == pytest.approx(max(at(t) for t in [0, 0.5, 1, *spam, *(p + 1e-9 for p in spam)]))
    assert result["best_decided"][metric] == pytest.approx(at(chosen))
    assert result["test"][metric] == pytest.approx(at(chosen, "test"))
    decided = ["spam" if one["by_label"]["spam"] >= chosen else "ham" for one in found["test"]]
    assert result["per_label"]["spam"]["f1"] == pytest.approx(f1_score(labels["test"], decided, pos_label="spam",
        zero_division=0))
    merged = tmp_path / "merged.pt"
    run("export", folder, "--to", "torchscript", "--output", merged)
    for model in (folder, merged):
        again = [json.loads(line) for line in run("predict", model, rare / "test.csv").stdout.splitlines()]
        assert [one["prediction"] for one in again] == ["spam" if one["by_label"]["spam"] >= chosen else "ham" for one
                                                        in again]
        assert json.loads(run("evaluate", model, "--data", rare / "test.csv", "--json").stdout)[
            metric] == pytest.approx(result["test"][metric], abs=1e-6)


def test_a_threshold_may_be_given(train, run, rare):
    folder, _ = train("data.threshold=0.2")
    for line in run("predict", folder, rare / "dev.csv").stdout.splitlines():
        one = json.loads(line)
        assert one["prediction"] == ("spam" if one["by_label"]["spam"] >= 0.2 else "ham")
    shares = [json.loads(line)["by_label"]["spam"] for line in run("predict", folder,
        rare / "dev.csv").stdout.splitlines()]
    middle = sorted(shares)[len(shares) // 2]  # one that decides between these rows, set over the run's
    found = [json.loads(line)["prediction"] for line in run("predict", folder, rare / "dev.csv", "--set",
                                                            f"data.threshold={middle!r}").stdout.splitlines()]
    assert found == ["spam" if share >= middle else "ham" for share in shares] and len(set(found)) == 2


def test_reports_and_rows_know_how_sure_a_threshold_is(train, run, rare, tmp_path):
    import html
    import re

    folder, _ = train("data.threshold=0.15")
    run("evaluate", folder, "--data", rare / "test.csv", "--output", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    wrong = sorted((one["probabilities"][one["prediction"]] for one in rows if one["prediction"] != one["label"]),
                   reverse=True)
    assert wrong and any(one["probabilities"][one["prediction"]] < 0.5 for one in rows)
    page = (folder / "report.html").read_text()

    def shown(heading):
        part = page[page.index(heading):]
        return [float(html.unescape(cell)) for cell in re.findall(r"<td class='number'>(.*?)</td>",
            part[:part.index("</table>")])]

    assert shown("Surest mistakes</h2>") == pytest.approx(wrong[:10], abs=1e-3)
    least = sorted(one["probabilities"][one["prediction"]] for one in rows)
    assert shown("Least certain rows</h2>") == pytest.approx(least[:10], abs=1e-3)


@pytest.mark.parametrize("setting, words", [
    ("data.metric=f2", ["data.metric", "accuracy, f1, matthews, loss"]),
    ("data.class_weights=equal", ["data.class_weights", "none, balanced"]),
    ("data.class_weights={spam: -1}", ["data.class_weights", "at least 0"]),
    ("data.class_weights={spam: much}", ["data.class_weights", "a number for each name"]),
    ("data.threshold=1.5", ["data.threshold", "auto or a number between 0 and 1"]),
    ("data.threshold=high", ["data.threshold", "expected a number"]),
])
def test_what_cannot_be_is_said(setting, words, run, rare):
    said = run("finetune", "--model", rare / "none.pt", "--train", rare / "train.csv", "--set", setting, "--dry-run",
               code=1).stderr
    for word in words:
        assert word in said, said


def test_weights_of_unknown_labels_and_thresholds_of_three_are_refused(run, rare, tiny_archive, tmp_path):
    model = tiny_archive("bert", "encoder")
    said = run("finetune", "--model", model, "--train", rare / "train.csv", "--set", "data.class_weights={eggs: 2}",
               "--dry-run", code=1).stderr
    assert "data.class_weights: 'eggs' is no label; known: ham, spam" in said
    three = write_csv(tmp_path / "three.csv", ["text", "label"], [[f"t {i}", "abc"[i % 3]] for i in range(30)])
    said = run("finetune", "--model", model, "--train", three, "--set", "data.threshold=auto", "--dry-run",
               code=1).stderr
    assert "data.threshold: a threshold decides between two labels; there are 3" in said


def test_weights_of_labels_with_dots_read_back(run, tiny_archive, tmp_path):
    rows = write_csv(tmp_path / "rows.csv", ["text", "label"], [[f"t {i}", "v1.0" if i % 2 else "v2.0"] for i
                                                                in range(30)])
    run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", rows, "--steps", 1, "--run",
        tmp_path / "run", "--set", 'data.class_weights={"v1.0": 2, "v2.0": 3}')
    run("finetune", tmp_path / "run" / "config.yaml", "--run", tmp_path / "again")
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (
        tmp_path / "again" / "last.safetensors").read_bytes()
