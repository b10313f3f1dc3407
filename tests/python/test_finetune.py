"""The main job through the program: train, evaluate, predict, export; the peers are torch.jit.load and PEFT."""
from __future__ import annotations

import json
import random

import pytest
import torch

WORDS = "good bad fine awful great poor nice sad happy broken works fails love hate blue red big small old new".split()


def write_rows(path, rows, seed, kind):
    """Texts whose label is a plain function of their words, so that a tiny model can learn it."""
    rng = random.Random(seed)
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(rows):
            words = [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]
            score = sum(w in ("good", "fine", "great", "nice", "happy", "works", "love") for w
                        in words) - 0.5 * len(words)
            label = round(score, 2) if kind == "regression" else ("positive" if score > -1 else "negative")
            out.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")
    return path


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    out = {}
    for kind in ("classification", "regression"):
        for split, count, seed in (("train", 64, 1), ("dev", 32, 2), ("test", 32, 3)):
            out[kind, split] = write_rows(folder / f"{kind}-{split}.jsonl", count, seed, kind)
    return out


def config(tmp_path, archive, rows, kind, adapter, train="", extra=""):
    """A small configuration; `adapter` and `train` are the insides of YAML flow mappings."""
    text = f"""model: {{path: {archive}}}
data: {{task: {kind}, train: {rows[kind, 'train']}, dev: {rows[kind, 'dev']}, test: {rows[kind, 'test']}, max_length: 24}}
adapter: {{{adapter}}}
train: {{steps: 12, batch_size: 8, eval_every: 4, log_every: 1, seed: 5{', ' + train if train else ''}}}
{extra}"""  # noqa: E501
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def result(run_folder):
    return json.loads((run_folder / "result.json").read_text())


def tokenize(folder, texts, **options):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt", **options)


def predictions(run, run_folder, path):
    return [json.loads(line) for line in run("predict", run_folder, "--input", path).stdout.splitlines()]


METHODS = {
    "none": "method: none",
    "full": "method: full",
    "lora": "method: lora, rank: 4, targets: all-linear",
    "rslora": "method: rslora, rank: 4, targets: query-value, dropout: 0.1",
    "deep-lora": "method: deep-lora, rank: 4, depth: 3, targets: [attention-mlp, '*.word_embeddings']",
    "compressed": "method: deep-lora, rank: 3, compress: true, targets: query-value",
}


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_its_merged_file_gives_the_live_predictions_in_plain_pytorch(
        method, kind, run, rows, tiny_archive, tiny_folder, tmp_path):
    archive = tiny_archive("bert", "encoder")
    run_folder = tmp_path / "run"
    run("finetune", config(tmp_path, archive, rows, kind, METHODS[method]), "--run", run_folder)
    written = result(run_folder)
    assert written["task"] == kind and written["best"] and written["last"] and written["test"]
    for name in ("config.yaml", "metrics.jsonl", "adapter.safetensors", "report.html", "checkpoints"):
        assert (run_folder / name).exists(), name
    headline = "accuracy" if kind == "classification" else "pearson"
    scored = json.loads(run("evaluate", run_folder, "--json").stdout)
    assert scored[headline] == pytest.approx(written["test"][headline], abs=1e-9)

    live = predictions(run, run_folder, rows[kind, "test"])
    merged = tmp_path / "merged.pt"
    run("export", run_folder, "--to", "torchscript", "--output", merged)
    texts = [json.loads(line)["text"] for line in open(rows[kind, "test"], encoding="utf-8")]
    inputs = tokenize(tiny_folder("bert"), texts, truncation=True, max_length=24)
    with torch.no_grad():
        logits = torch.jit.load(str(merged))(**inputs).float()  # a regression gives float64
    expected = torch.tensor([row["logits"] for row in live])
    assert torch.allclose(logits, expected, atol=2e-4 * max(1.0, expected.abs().max().item()))
    again = predictions(run, merged, rows[kind, "test"])
    assert [set(row) for row in again] == [set(row) for row in live]
    assert torch.allclose(torch.tensor([row["logits"] for row in again]), expected,
                          atol=2e-4 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("method", ["lora", "deep-lora"])
def test_peft_loads_the_adapter_folder_on_the_hugging_face_base_and_gives_the_same_logits(
        family, method, run, rows, tiny_archive, tiny_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    archive = tiny_archive(family, "classifier", 2)
    run_folder, folder = tmp_path / "run", tmp_path / "peft"
    adapter = METHODS[method] if method == "lora" else "method: deep-lora, rank: 4, targets: all-linear"
    run("finetune", config(tmp_path, archive, rows, "classification", adapter), "--run", run_folder)
    run("export", run_folder, "--to", "peft", "--output", folder)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder(family), num_labels=2)
    # The archive's head was made at random by the exporter; its trained values are in the adapter folder.
    model = PeftModel.from_pretrained(base, folder).eval()
    texts = [json.loads(line)["text"] for line in open(rows["classification", "test"], encoding="utf-8")]
    inputs = tokenize(tiny_folder(family), texts, truncation=True, max_length=24)
    names = set(torch.jit.load(str(archive)).forward.schema.arguments[i].name for i in range(1, 3))
    assert "input_ids" in names
    if family == "bert":
        merged_pooler(base, archive)
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = torch.tensor([row["logits"] for row in predictions(run, run_folder, rows["classification", "test"])])
    assert torch.allclose(logits, expected, atol=1e-4), (logits - expected).abs().max()


def merged_pooler(base, archive):
    """A pooler that the checkpoint lacks is random in both worlds: take the archive's, which is the base of the run."""
    state = dict(torch.jit.load(str(archive)).named_parameters())
    with torch.no_grad():
        for name, value in base.named_parameters():
            found = next((v for k, v in state.items() if k.endswith(name) and "pooler" in k), None)
            if found is not None and value.shape == found.shape:
                value.copy_(found)


def test_a_peft_made_adapter_is_loaded_evaluated_and_merged(run, rows, tiny_archive, tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(0)
    base = AutoModel.from_pretrained(tiny_folder("bert"), add_pooling_layer=False).eval()
    peft = get_peft_model(base, LoraConfig(r=3, lora_alpha=7, target_modules=["query", "value"]))
    for name, value in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    peft.eval().save_pretrained(tmp_path / "peft")
    archive = tiny_archive("bert", "encoder")
    path = config(tmp_path, archive, rows, "regression", f"path: {tmp_path / 'peft'}", "steps: 0")
    path.write_text(path.read_text().replace("steps: 12, ", ""))
    run_folder, merged = tmp_path / "run", tmp_path / "merged.safetensors"
    run("finetune", path, "--run", run_folder)
    assert "pearson" in run("evaluate", run_folder, "--json").stdout
    run("export", run_folder, "--to", "safetensors", "--output", merged)
    from safetensors.torch import load_file

    ours = load_file(merged)
    for name, value in peft.merge_and_unload().state_dict().items():
        if name in ours and value.is_floating_point():
            assert torch.allclose(ours[name], value, atol=1e-6), name
    changed = [n for n in ours if n.endswith("query.weight") or n.endswith("value.weight")]
    assert len(changed) == 4


def test_a_peft_folder_with_a_trained_head_starts_a_run_that_can_be_evaluated(run, rows, tiny_archive, tmp_path):
    archive = tiny_archive("bert", "classifier", 2)
    first, second, folder = tmp_path / "first", tmp_path / "second", tmp_path / "peft"
    run("finetune", config(tmp_path, archive, rows, "classification", METHODS["lora"]), "--run", first)
    run("export", first, "--to", "peft", "--output", folder)
    path = config(tmp_path, archive, rows, "classification", f"path: {folder}")
    run("finetune", path, "--set", "train.steps=0", "--run", second)
    # The head's weights are the archive's own: taking them over must not change what the archive is known by.
    expected, found = (json.loads(run("evaluate", r, "--json").stdout) for r in (first, second))
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_rows_may_carry_input_ids_and_then_no_tokenizer_is_needed(run, tiny_archive, tmp_path):
    rng = random.Random(3)
    for split, count in (("train", 40), ("dev", 16)):
        with open(tmp_path / f"{split}.jsonl", "w", encoding="utf-8") as out:
            for _ in range(count):
                ids = [rng.randint(5, 60) for _ in range(rng.randint(3, 8))]
                out.write(json.dumps({"input_ids": ids, "label": ids[0] % 2}) + "\n")
    path = tmp_path / "config.yaml"
    path.write_text(f"""model: {{path: {tiny_archive("bert", "encoder")}}}
data: {{task: classification, train: {tmp_path}/train.jsonl, dev: {tmp_path}/dev.jsonl}}
adapter: {{method: lora, rank: 2}}
train: {{steps: 4, batch_size: 8}}
""")
    run("finetune", path, "--run", tmp_path / "run")
    assert result(tmp_path / "run")["best"]["accuracy"] >= 0
