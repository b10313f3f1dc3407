"""Folders for sentence-transformers. Oracle: SentenceTransformer(folder).encode of that package."""
from __future__ import annotations

import json
import shutil

import pytest
import torch

from test_finetune import config, predictions, rows  # noqa: F401 (rows is a fixture)


def encoded(folder, texts):
    from sentence_transformers import SentenceTransformer

    return torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(texts, batch_size=5), dtype=torch.float64)


def texts_of(path):
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def logits(run, place, path):
    return torch.tensor([line["logits"] for line in predictions(run, place, path)], dtype=torch.float64)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("model, kind", [("bert", "classification"), ("roberta", "classification"), ("distilbert", "regression"), ("qwen2", "classification")])
def test_encode_gives_the_logits_of_the_run(model, kind, pooling, run, rows, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder(model), tmp_path / "hf")
    if model == "qwen2":  # as published folders name it
        named = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**named, "pad_token": "<|endoftext|>"}))
    path = config(tmp_path, folder, rows, kind, "method: lora, rank: 2, targets: attention-mlp", extra="head: {type: linear}\n")
    path.write_text(path.read_text().replace("model: {", f"model: {{pooling: {pooling}, "))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    expected = logits(run, tmp_path / "run", rows[kind, "test"])
    assert expected.std(0).min() > 1e-3
    found = encoded(tmp_path / "out", texts_of(rows[kind, "test"]))
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max().item())
    # it is a model with a head here
    again = config(tmp_path, tmp_path / "out", rows, kind, "method: none", train="").read_text().replace("steps: 12", "steps: 0")
    (tmp_path / "again.yaml").write_text(again)
    run("finetune", tmp_path / "again.yaml", "--run", tmp_path / "again")
    assert (logits(run, tmp_path / "again", rows[kind, "test"]) - expected).abs().max() < 1e-5 * max(1, expected.abs().max().item())


def test_texts_are_cut_where_the_run_cuts_them(run, rows, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_folder("bert"), rows, "classification", "method: lora, rank: 2", extra="head: {type: linear}\n")
    path.write_text(path.read_text().replace("max_length: 24", "max_length: 6"))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    expected = logits(run, tmp_path / "run", rows["classification", "test"])
    assert (encoded(tmp_path / "out", texts_of(rows["classification", "test"])) - expected).abs().max() < 1e-5


def test_an_archive_gives_the_same_folder(run, rows, tiny_archive, tmp_path):
    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", "method: lora, rank: 2")
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    expected = logits(run, tmp_path / "run", rows["classification", "test"])
    assert (encoded(tmp_path / "out", texts_of(rows["classification", "test"])) - expected).abs().max() < 1e-5


def test_what_has_no_place_there_is_refused(run, rows, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_folder("bert"), rows, "classification", "method: lora, rank: 2", extra="head: {type: huggingface}\n")
    run("finetune", path, "--run", tmp_path / "own")
    said = run("export", tmp_path / "own", "--to", "sentence-transformers", "--output", tmp_path / "out", code=1).stderr
    assert "BertForSequenceClassification" in said and "safetensors" in said
    path = config(tmp_path, tiny_folder("llama"), rows, "classification", "method: lora, rank: 2", extra="head: {type: linear}\n")
    run("finetune", path, "--run", tmp_path / "unpadded")
    assert "padding token" in run("export", tmp_path / "unpadded", "--to", "sentence-transformers", "--output", tmp_path / "out", code=1).stderr
    (tmp_path / "texts.txt").write_text("the red house\nthe blue car\n" * 4)
    (tmp_path / "lm.yaml").write_text(f"model: {{path: {tiny_folder('llama')}}}\ndata: {{task: causal-lm, train: {tmp_path}/texts.txt, max_length: 24}}\n"
                                      "adapter: {method: lora, rank: 2}\ntrain: {steps: 1}\n")
    run("finetune", tmp_path / "lm.yaml", "--run", tmp_path / "lm")
    said = run("export", tmp_path / "lm", "--to", "sentence-transformers", "--output", tmp_path / "out", code=1).stderr
    assert "causal-lm" in said and not (tmp_path / "out").exists()
