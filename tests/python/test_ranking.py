"""Texts put in order for queries. Oracles: scikit-learn's ndcg_score and average_precision_score for each query,
PyTorch's cross-entropy, sentence-transformers' CrossEncoder."""
from __future__ import annotations

import json
import random

import numpy
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, ndcg_score

from test_distributed import together
from test_first_minutes import text


def drawn(queries, seed, grades):
    rng = random.Random(seed)
    rows = []
    for q in range(queries):
        query = f"{text(rng)} {seed} {q}"
        texts = [{
  "query" : query, "text" : text(rng), "label" : rng.choice(grades)} for _ in range(rng.choice([2, 5, 14]))]
        texts[rng.randrange(len(texts))]["label"] = grades[-1]
        rows += texts
    rng.shuffle(rows)
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module", params=[(0, 1), (0, 0, 1, 2, 3)], ids=["binary", "graded"])
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    return {split: write(folder / f"{split}.jsonl", drawn(count, seed, request.param)) for seed, (split, count)
            in enumerate({"train": 8, "dev": 5, "test": 9}.items())}


@pytest.fixture()
def train(run, files, tiny_archive, tmp_path):
    def call(name, *sets, model=None):
        run("finetune", "--model", model or tiny_archive("bert", "encoder"), "--task", "ranking",
            *[f"--{k}={v}" for k, v in files.items()], "--steps", 6, "--run", tmp_path / name,
            *[part for one in ("data.max_length=32", "train.batch_size=8", "train.eval_every=2", "train.lr=1e-2", *sets)
              for part in ("--set", one)])
        return tmp_path / name
    return call


def predictions(run, model, file):
    return [json.loads(line) for line in run("predict", model, "--input", file).stdout.splitlines()]


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_scores_are_scikit_learns_query_by_query(train, run, files):
    folder = train("run")
    rows, found = read(files["test"]), predictions(run, folder, files["test"])
    scores = json.loads(run("evaluate", folder, "--json").stdout)
    queries = {}
    for row, one in zip(rows, found):
        assert one["prediction"] == pytest.approx(1 / (1 + numpy.exp(-one["logits"][0])), abs=1e-12)
        queries.setdefault(row["query"], []).append((one["logits"][0], row["label"]))
    ndcg, mrr, precisions = [], [], []
    for texts in queries.values():
        logits, labels = (numpy.array(side) for side in zip(*texts))
        assert len(set(logits)) == len(logits), "ties have no one order"
        ndcg.append(ndcg_score([labels], [logits], k=10))
        precisions.append(average_precision_score(labels > 0, logits))
        first = 1 + min(place for place, i in enumerate(numpy.argsort(-logits)) if labels[i] > 0)
        mrr.append(1 / first if first <= 10 else 0)
    assert scores["ndcg@10"] == pytest.approx(numpy.mean(ndcg), abs=1e-9)
    assert scores["map"] == pytest.approx(numpy.mean(precisions), abs=1e-9)
    assert scores["mrr@10"] == pytest.approx(numpy.mean(mrr), abs=1e-9)
    assert scores["queries"] == len(queries) and scores["queries_without_relevant"] == 0
    largest = max(row["label"] for row in read(files["train"]))
    logits, labels = torch.tensor([one["logits"][0] for one in found]).double(), torch.tensor([row["label"] / largest
        for row in rows]).double()
    assert scores["loss"] == pytest.approx(torch.nn.BCEWithLogitsLoss()(logits, labels).item(), abs=1e-6)
    assert next(iter(json.loads((folder / "result.json").read_text())["best"])) == "mrr@10"


def test_backends_processes_and_resumed_runs_agree(train, run, program, files, tiny_archive, tmp_path):
    plain = ("model.dropout=0", "head.dropout=0", "train.save_every=2", "train.optimizer=sgd", "train.momentum=0")
    native, graph = train("native", *plain), train("graph", *plain, "model.backend=graph")
    a, b = ([one["logits"][0] for one in predictions(run, folder, files["test"])] for folder in (native, graph))
    assert a == pytest.approx(b, abs=1e-4)
    shared = tmp_path / "shared"
    together(program, 2, "finetune", native / "config.yaml", "--run", shared)
    whole, other = (load_file(folder / "last.safetensors") for folder in (native, shared))
    assert max((whole[name] - other[name]).abs().max().item() for name in whole) < 1e-5
    bits = (native / "last.safetensors").read_bytes()
    for name in ("result.json", "last.safetensors", "adapter.safetensors"):
        (native / name).unlink()
    newest = max((native / "checkpoints").iterdir())
    for file in sorted(newest.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    newest.rmdir()
    run("finetune", "--run", native, "--resume")
    assert (native / "last.safetensors").read_bytes() == bits


def test_exports_score_as_the_run_does(train, run, files, tiny_folder, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    folder = train("run", "head.type=huggingface", model=tiny_folder("bert"))
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged").eval(), AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert model.config.num_labels == 1
    for row, one in list(zip(read(files["test"]), predictions(run, folder, files["test"])))[:6]:
        with torch.no_grad():
            logits = model(**tokenizer(row["query"], row["text"], return_tensors="pt", truncation=True,
                                       max_length=32)).logits[0]
        assert logits.tolist() == pytest.approx(one["logits"], abs=1e-4)


def test_drawn_rows_are_whole_queries(run, tiny_archive, tmp_path):
    rows = write(tmp_path / "rows.jsonl", drawn(40, 3, (0, 1)))
    run("finetune", "--model", tiny_archive("bert", "encoder"), "--task", "ranking", "--train", rows, "--steps", 1,
        "--run", tmp_path / "run", "--set", "data.test_share=0.2",
        "--set", "data.max_length=32")
    run("evaluate", tmp_path / "run", "--output", tmp_path / "scored.jsonl")
    lines = [int(json.loads(line)["source"].rsplit(":", 1)[1]) for line
             in (tmp_path / "scored.jsonl").read_text().splitlines()]
    all_rows = read(rows)
    chosen = {all_rows[line - 1]["query"] for line in lines}
    assert len(lines) == sum(row["query"] in chosen for row in all_rows) > 0


def test_a_query_without_a_relevant_text_is_said_and_counts_0(train, run, files, tmp_path):
    folder = train("run")
    before = json.loads(run("evaluate", folder, "--json").stdout)
    rows = read(files["test"]) + [{"query": "nobody knows", "text": "a", "label": 0}]
    done = run("evaluate", folder, "--json", "--data", write(tmp_path / "more.jsonl", rows))
    after = json.loads(done.stdout)
    assert "1 of 10 queries have no relevant text" in done.stderr and f"more.jsonl:{len(rows)}" in done.stderr
    assert after["map"] == pytest.approx(before["map"] * 9 / 10, abs=1e-9)


def test_comparisons_judge_by_it(run, files, tiny_archive, tmp_path):
    named = ", ".join(f"{split}: {file}" for split, file in files.items())
    (tmp_path / "compare.yaml").write_text(f"""model: {{path: {tiny_archive("bert", "encoder")}}}
data: {{task: ranking, {named}, max_length: 32, metric: ndcg@10}}
adapter: {{targets: query-value}}
train: {{steps: 2, batch_size: 8}}
compare: {{seeds: 1, methods: [{{name: LoRA, adapter: {{method: lora, rank: 2}}, lr: [1e-3]}}, {{name: head only, adapter: {{method: none}}}}]}}
""")  # noqa: E501
    assert "ndcg@10" in run("compare", tmp_path / "compare.yaml", "--run", tmp_path / "run").stdout.splitlines()[0]
