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
@pytest.mark.parametrize("model, kind", [("bert", "classification"), ("roberta", "classification"),
                                         ("distilbert", "regression"), ("qwen2", "classification")])
def test_encode_gives_the_logits_of_the_run(model, kind, pooling, run, rows, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder(model), tmp_path / "hf")
    if model == "qwen2":  # as published folders name it
        named = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**named, "pad_token": "<|endoftext|>"}))
    path = config(tmp_path, folder, rows, kind, "method: lora, rank: 2, targets: attention-mlp",
                  extra="head: {type: linear}\n")
    path.write_text(path.read_text().replace("model: {", f"model: {{pooling: {pooling}, "))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    expected = logits(run, tmp_path / "run", rows[kind, "test"])
    assert expected.std(0).min() > 1e-3
    found = encoded(tmp_path / "out", texts_of(rows[kind, "test"]))
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max().item())
    # it is a model with a head here
    again = config(tmp_path, tmp_path / "out", rows, kind, "method: none", train="").read_text().replace("steps: 12",
        "steps: 0")
    (tmp_path / "again.yaml").write_text(again)
    run("finetune", tmp_path / "again.yaml", "--run", tmp_path / "again")
    assert (logits(run, tmp_path / "again", rows[kind, "test"]) - expected).abs().max() < 1e-5 * max(1,
        expected.abs().max().item())


def test_texts_are_cut_where_the_run_cuts_them(run, rows, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_folder("bert"), rows, "classification", "method: lora, rank: 2",
                  extra="head: {type: linear}\n")
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
    path = config(tmp_path, tiny_folder("bert"), rows, "classification", "method: lora, rank: 2",
                  extra="head: {type: huggingface}\n")
    run("finetune", path, "--run", tmp_path / "own")
    said = run("export", tmp_path / "own", "--to", "sentence-transformers", "--output", tmp_path / "out", code=1).stderr
    assert "BertForSequenceClassification" in said and "safetensors" in said
    path = config(tmp_path, tiny_folder("llama"), rows, "classification", "method: lora, rank: 2",
                  extra="head: {type: linear}\n")
    run("finetune", path, "--run", tmp_path / "unpadded")
    assert "padding token" in run("export", tmp_path / "unpadded", "--to", "sentence-transformers", "--output",
                                  tmp_path / "out", code=1).stderr
    (tmp_path / "texts.txt").write_text("the red house\nthe blue car\n" * 4)
    (tmp_path / "lm.yaml").write_text(
        f"model: {{path: {tiny_folder('llama')}}}\ndata: {{task: causal-lm, train: {tmp_path}/texts.txt, max_length: "
        f"24}}\n"
                                      "adapter: {method: lora, rank: 2}\ntrain: {steps: 1}\n")
    run("finetune", tmp_path / "lm.yaml", "--run", tmp_path / "lm")
    said = run("export", tmp_path / "lm", "--to", "sentence-transformers", "--output", tmp_path / "out", code=1).stderr
    assert "causal-lm" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind, pooling", [("classification", "mean"), ("regression", "cls")])
def test_normalised_states_are_a_module_of_the_folder(kind, pooling, run, rows, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_folder("bert"), rows, kind, "method: lora, rank: 2", extra="head: {type: linear}\n")
    plain = path.read_text().replace("model: {", f"model: {{pooling: {pooling}, ")
    expected = {}
    for name, text in (("plain", plain), ("normalised", plain.replace("model: {", "model: {normalize: true, "))):
        path.write_text(text)
        run("finetune", path, "--run", tmp_path / name)
        expected[name] = logits(run, tmp_path / name, rows[kind, "test"])
    assert (expected["plain"] - expected["normalised"]).abs().max() > 1e-3
    close = 1e-5 * max(1, expected["normalised"].abs().max().item())
    for form, out in (("sentence-transformers", "st"), ("safetensors", "hf"), ("peft", "peft")):
        run("export", tmp_path / "normalised", "--to", form, "--output", tmp_path / out)
    modules = [(one["type"].split(".")[-1], one["path"]) for one
               in json.loads((tmp_path / "st/modules.json").read_text())]
    assert modules == [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"),
                       ("Dense", "3_Dense")]
    assert (encoded(tmp_path / "st", texts_of(rows[kind, "test"])) - expected["normalised"]).abs().max() < close
    assert "torch.nn.functional.normalize" in (tmp_path / "hf/README.md").read_text()
    # read here: as a model, and as an adapter beside the same kind of head alone
    for folder in ("st", "hf"):
        assert (logits(run, tmp_path / folder, rows[kind, "test"]) - expected["normalised"]).abs().max() < close
    again = path.read_text().replace("steps: 12", "steps: 0").replace("method: lora, rank: 2", f"path: {tmp_path}/peft")
    path.write_text(again)
    run("finetune", path, "--run", tmp_path / "again")
    assert (logits(run, tmp_path / "again", rows[kind, "test"]) - expected["normalised"]).abs().max() < close
    path.write_text(again.replace("normalize: true, ", ""))
    assert "normalised" in run("finetune", path, "--run", tmp_path / "other", code=1).stderr
    path.write_text(again.replace(f"pooling: {pooling}", "pooling: max"))
    said = run("finetune", path, "--run", tmp_path / "other", code=1).stderr
    assert f"{pooling} pooling" in said and "max" in said


def test_normalised_heads_around_an_archive(run, rows, tiny_archive, tmp_path):
    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", "method: lora, rank: 2")
    path.write_text(path.read_text().replace("model: {", "model: {normalize: true, "))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    expected = logits(run, tmp_path / "run", rows["classification", "test"])
    assert (logits(run, tmp_path / "merged.pt", rows["classification", "test"]) - expected).abs().max() < 1e-5
    again = path.read_text().replace("normalize: true, ", "").replace(str(tiny_archive("bert", "encoder")),
        str(tmp_path / "merged.pt")).replace("steps: 12", "steps: 0")
    path.write_text(again)
    run("finetune", path, "--run", tmp_path / "again")
    assert (logits(run, tmp_path / "again", rows["classification", "test"]) - expected).abs().max() < 1e-5
    path.write_text(again.replace("model: {", "model: {normalize: true, "))
    assert "model.normalize" in run("finetune", path, "--run", tmp_path / "other", code=1).stderr


def test_modules_of_the_source_are_followed_said_or_refused_by_name(run, rows, tiny_folder, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    width = json.loads((tiny_folder("bert") / "config.json").read_text())["hidden_size"]
    word, pooling = modules.Transformer(str(tiny_folder("bert"))), modules.Pooling(width, pooling_mode="cls")

    def start(name, *behind, more=""):
        SentenceTransformer(modules=[word, pooling, *behind], device="cpu").save(str(tmp_path / name))
        path = config(tmp_path, tmp_path / name, rows, "classification", "method: none", train="")
        path.write_text(path.read_text().replace("steps: 12", "steps: 0").replace("model: {", "model: {" + more))
        return run("finetune", path, "--run", tmp_path / f"run-{name}-{len(more)}", code=None)

    assert "pooling: cls" in start("pooled").stderr
    said = start("normalised", modules.Normalize()).stderr
    assert "Normalize is left out" in said and "model.normalize: true" in said
    assert "left out" not in start("normalised", modules.Normalize(), more="normalize: true, ").stderr
    dense = modules.Dense(width, 7)
    refused = start("dense", dense, modules.Normalize())
    assert (refused.returncode == 1 and "a Dense behind the pooling is not read" in refused.stderr
            and "model.pooling: cls" in refused.stderr)
    assert start("dense", dense, more="pooling: cls, ").returncode == 0
