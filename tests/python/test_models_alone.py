"""Models that are scored and asked without a run folder: what `deeplora export` wrote, and what other programs wrote.
Oracles: the run itself, and transformers on the same folder."""
from __future__ import annotations

import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers

from test_class_heads import CLASSES, classifier, close, finetune, logits, logits_of, model_of, predicted, pretrained, texts, write  # noqa: E501

WORDS = ["the red house is old", "a blue car", "new and small", "the tree",
         "a red car and a blue house near the old tree", "small"]


def score(run, place, data, *more):
    return json.loads(run("evaluate", place, "--data", data, "--json", *more).stdout)


def same(found: dict, expected: dict):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, abs=1e-5), key
        elif key not in ("calibration", "file"):
            assert found[key] == value, key


@pytest.fixture()
def pairs(tmp_path):
    """Rows of two columns with names of their own, longer than the run takes them."""
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"left": WORDS[i % 6], "right": WORDS[i * 5 % 6], "kind": ["spam", "ham"][i % 2],
                                        "value": i % 5 / 2}) + "\n" for i in range(24)))
    return path


def train(run, tmp_path, model, data, task, head):
    label = "value" if task == "regression" else "kind"
    path = tmp_path / "run.yaml"
    path.write_text(f"""model: {{path: {model}, dropout: 0}}
data: {{task: {task}, train: {data}, dev: {data}, text: left, text_pair: right, label: {label}, max_length: 9{", threshold: 0.4" if task == "classification" else ""}}}
adapter: {{method: lora, rank: 2}}
head: {{type: {head}}}
train: {{steps: 6, batch_size: 8, lr: 0.01, eval_every: 100}}
""")  # noqa: E501
    run("finetune", path, "--run", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("head", ["huggingface", "linear"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_an_exported_folder_is_scored_and_asked_as_its_run(task, head, run, pairs, tiny_folder, tmp_path):
    folder = train(run, tmp_path, tiny_folder("bert"), pairs, task, head)
    expected, scores = predicted(run, folder, pairs), score(run, folder, pairs)
    out = tmp_path / "out"
    run("export", folder, "--to", "safetensors", "--output", out)
    shutil.rmtree(folder)

    def check(*more):
        found = [json.loads(line) for line in run("predict", out, pairs, *more).stdout.splitlines()]
        assert len(found) == len(expected) == 24
        for one, other in zip(found, expected):
            assert one["logits"] == pytest.approx(other["logits"], abs=1e-5)
            assert one["prediction"] == (other["prediction"] if task == "classification"
                                         else pytest.approx(other["prediction"], abs=1e-5))
        same(score(run, out, pairs, *more), scores)

    check()
    # config.json knows neither columns nor where texts are cut; what is predicted there has no threshold
    (out / "deeplora.json").unlink()
    columns = [part for name, value in (("text", "left"), ("text_pair", "right"),
                                        ("label", "kind" if task == "classification" else "value"), ("max_length", 9))
               for part in ("--set", f"data.{name}={value}")]
    check(*columns, *(["--set", "data.threshold=0.4"] if task == "classification" else []))


def test_labels_of_a_folder_that_was_trained_elsewhere_since_are_not_mixed_up(run, pairs, tiny_folder, tmp_path):
    folder = train(run, tmp_path, tiny_folder("bert"), pairs, "classification", "huggingface")
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    config["id2label"] = {"0": "good", "1": "bad"}
    (tmp_path / "out/config.json").write_text(json.dumps(config))
    said = run("predict", tmp_path / "out", pairs, code=1).stderr
    assert "deeplora.json" in said and "ham, spam" in said and "good, bad" in said
    (tmp_path / "out/deeplora.json").unlink()
    assert json.loads(run("predict", tmp_path / "out", "--text", "a", "--text", "b", "--set",
                          "data.text_pair=text_pair").stdout)["prediction"] in ("good", "bad")


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert"])
def test_texts_go_through_the_folders_own_tokenizer(name, run, tiny_folder, tmp_path):
    source = tiny_folder(name)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, id2label={0: "no", 1: "yes",
        2: "maybe"}, label2id={"no": 0, "yes": 1, "maybe": 2}).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tokenizer.model_max_length = 12
    model.save_pretrained(tmp_path / "hf")
    tokenizer.save_pretrained(tmp_path / "hf")
    with torch.no_grad():
        expected = model(**tokenizer(WORDS, padding=True, truncation=True, return_tensors="pt")).logits
    (tmp_path / "rows.txt").write_text("\n".join(WORDS) + "\n")
    found = predicted(run, tmp_path / "hf", tmp_path / "rows.txt")
    close(torch.tensor([one["logits"] for one in found], dtype=torch.float64), expected.double())
    assert [one["prediction"] for one in found] == [["no", "yes", "maybe"][i] for i in expected.argmax(1).tolist()]


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "bart", "modernbert-mean"])
def test_one_output_is_a_regression(name, run, tmp_path):
    model = model_of(name, "ForSequenceClassification", num_labels=1)
    model.save_pretrained(tmp_path / "hf")
    rows = texts()
    expected = logits_of(model, rows)
    targets = [value + 0.1 * (i % 3) for i, value in enumerate(expected.flatten().tolist())]
    data = write(tmp_path / "rows.jsonl", rows, targets)
    close(logits(run, tmp_path / "hf", data), expected)
    scores = score(run, tmp_path / "hf", data)
    assert scores["mse"] == pytest.approx(((expected.flatten() - torch.tensor(targets)) ** 2).mean().item(), rel=1e-4)
    config = json.loads((tmp_path / "hf/config.json").read_text())
    (tmp_path / "hf/config.json").write_text(json.dumps({**config, "problem_type": "regression"}))
    assert score(run, tmp_path / "hf", data) == scores


def test_archives_are_asked_too(run, tmp_path):
    import export_torchscript

    model = classifier("roberta", tmp_path / "hf")
    export_torchscript.export(str(tmp_path / "hf"), str(tmp_path / "m.pt"), "classifier", None)
    data = write(tmp_path / "rows.jsonl", texts(), CLASSES * 4)
    close(logits(run, tmp_path / "m.pt", data), logits_of(model, texts()))
    assert score(run, tmp_path / "m.pt", data)["accuracy"] == score(run, tmp_path / "hf", data)["accuracy"]


def test_a_language_model_continues_and_is_scored(run, tmp_path):
    model = model_of("llama", "ForCausalLM")
    model.save_pretrained(tmp_path / "hf")
    rows = texts()
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
    with torch.no_grad():
        losses = [(model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item(), len(ids) - 1) for ids
                  in rows if len(ids) > 1]
    expected = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert score(run, tmp_path / "hf", data)["loss"] == pytest.approx(expected, rel=1e-5)


def spoil(folder, change):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path, {"format": "pt"})


def test_what_is_no_trained_head_is_refused_by_name(run, tmp_path):
    classifier("bert", tmp_path / "whole")
    data = write(tmp_path / "rows.jsonl", texts(), CLASSES * 4)

    def said(name, *change, **config):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / name)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, **config}))
        for one in change:
            spoil(folder, one)
        return run("predict", folder, data, code=1).stderr

    assert ("problem_type" in (text := said("several",
                                           problem_type="multi_label_classification")) and "multi_label_classification"
            in text)
    assert "regression of one number, found 3" in said("numbers", problem_type="regression")
    assert "classifier.bias" in said("half", lambda weights: weights.pop("classifier.bias"))
    assert "pooler" in said("poolerless", lambda weights: [weights.pop(name) for name in list(weights) if "pooler"
                                                           in name])
    assert "trained head" in said("headless", lambda weights: [weights.pop(name) for name in list(weights)
                                                               if "classifier" in name])
    assert "4 classes" in (text := said("miscounted",
                                        id2label={str(i): f"c{i}" for i in range(4)})) and "3 outputs" in text
    pretrained("bert", tmp_path / "encoder", "base")
    assert "task and labels are unknown" in run("predict", tmp_path / "encoder", data, code=1).stderr
    said = run("evaluate", tmp_path / "whole", code=1).stderr
    assert "--data FILE" in said
    assert "--model" in run("predict", tmp_path / "whole", data, "--model", tmp_path / "encoder", code=1).stderr
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft/adapter_config.json").write_text("{}")
    assert "PEFT folder" in run("predict", tmp_path / "peft", data, code=1).stderr
