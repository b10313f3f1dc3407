"""Every rival of LoRA through the program, on both backends; the peers are torch.jit.load and PEFT."""
from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
import torch

from test_finetune import config, merged_pooler, predictions, result, rows, tokenize  # noqa: F401 (fixture)

EMBEDDING = "[all-linear, '*.word_embeddings']"
METHODS = {
    "compressed": f"method: deep-lora, rank: 3, compress: true, targets: {EMBEDDING}",
    "lora-plus": f"method: lora-plus, rank: 3, lr_ratio: 4, targets: {EMBEDDING}",
    "dora": f"method: dora, rank: 3, targets: {EMBEDDING}",
    "pissa": f"method: pissa, rank: 3, targets: {EMBEDDING}",
    "lora-one": f"method: lora-one, rank: 3, targets: {EMBEDDING}",
    "lora-ga": f"method: lora-ga, rank: 3, targets: {EMBEDDING}",
    "eva": f"method: eva, rank: 3, targets: {EMBEDDING}",
    "polar": f"method: polar, rank: 3, targets: {EMBEDDING}",
}


def files_that_must_not_differ(run_folder):
    from safetensors.torch import load_file

    rows = [json.loads(line) for line in open(run_folder / "metrics.jsonl", encoding="utf-8")]
    for row in rows:
        for key in ("samples_per_second", "seconds", "peak_rss_mb"):
            row.pop(key, None)
    return load_file(run_folder / "adapter.safetensors"), load_file(run_folder / "last.safetensors"), rows


@pytest.mark.parametrize("method, backend", [("compressed", "native"), ("compressed", "graph"), ("dora", "graph"),
                                             ("polar", "graph"),
                                             ("lora-plus", "native"), ("pissa", "graph"), ("lora-one", "graph"),
                                             ("lora-ga", "graph"), ("eva", "native")])
def test_a_trained_and_merged_model_gives_the_live_predictions_in_plain_pytorch(
        method, backend, run, rows, tiny_archive, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", METHODS[method])
    run_folder, merged = tmp_path / "run", tmp_path / "merged.pt"
    run("finetune", path, "--set", f"model.backend={backend}", "--run", run_folder)
    scored = json.loads(run("evaluate", run_folder, "--json").stdout)
    assert scored["accuracy"] == pytest.approx(result(run_folder)["test"]["accuracy"], abs=1e-9)
    lines = [json.loads(line) for line in open(run_folder / "metrics.jsonl", encoding="utf-8")]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 12 and losses[0] != losses[-1]
    live = torch.tensor([row["logits"] for row in predictions(run, run_folder, rows["classification", "test"])])
    run("export", run_folder, "--to", "torchscript", "--output", merged)
    texts = [json.loads(line)["text"] for line in open(rows["classification", "test"], encoding="utf-8")]
    with torch.no_grad():
        logits = torch.jit.load(str(merged))(**tokenize(tiny_folder("bert"), texts, truncation=True, max_length=24))
    assert torch.allclose(logits, live, atol=2e-4 * max(1.0, live.abs().max().item()))


@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_the_exported_folder_and_gives_the_same_logits(method, run, rows, tiny_archive, tiny_folder,
        tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    archive = tiny_archive("bert", "classifier", 2)
    run_folder, folder = tmp_path / "run", tmp_path / "peft"
    run("finetune", config(tmp_path, archive, rows, "classification", METHODS[method]), "--run", run_folder)
    run("export", run_folder, "--to", "peft", "--output", folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["use_dora"] == (method == "dora")
    assert settings["r"] == {"pissa": 6, "compressed": 6, "lora-ga": 6}.get(method, 3)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=2)
    model = PeftModel.from_pretrained(base, folder).eval()
    merged_pooler(base, archive)
    texts = [json.loads(line)["text"] for line in open(rows["classification", "test"], encoding="utf-8")]
    inputs = tokenize(tiny_folder("bert"), texts, truncation=True, max_length=24)
    expected = torch.tensor([row["logits"] for row in predictions(run, run_folder, rows["classification", "test"])])
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits, expected, atol=1e-4)
        assert torch.allclose(model.merge_and_unload()(**inputs).logits, expected, atol=1e-4)


def test_a_dora_folder_of_peft_is_loaded_and_merged(run, rows, tiny_archive, tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModel

    torch.manual_seed(0)
    base = AutoModel.from_pretrained(tiny_folder("bert"), add_pooling_layer=False).eval()
    peft = get_peft_model(base, LoraConfig(r=3, lora_alpha=7, target_modules=["query", "value", "word_embeddings"],
                                           use_dora=True))
    for name, value in peft.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(value, std=0.3)
        if "magnitude" in name:
            value.data.mul_(1 + 0.2 * torch.rand_like(value))
    peft.eval().save_pretrained(tmp_path / "peft")
    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "regression", f"path: {tmp_path / 'peft'}",
                  "steps: 0")
    path.write_text(path.read_text().replace("steps: 12, ", ""))
    merged = tmp_path / "merged.safetensors"
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", merged)
    ours, compared = load_file(merged), 0
    for name, value in peft.merge_and_unload().state_dict().items():
        if name in ours and value.is_floating_point():
            assert torch.allclose(ours[name], value, atol=2e-6), name
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("method", ["polar", "compressed"])
def test_a_killed_and_resumed_run_ends_with_the_same_bits(method, run, program, rows, tiny_archive, tmp_path):
    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", METHODS[method], "save_every: 2")
    path.write_text(path.read_text().replace("steps: 12", "steps: 60"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("finetune", path, "--run", whole)
    process = subprocess.Popen([str(program), "finetune", str(path), "--run", str(killed)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    limit = time.time() + 60
    while process.poll() is None and time.time() < limit and not any((killed / "checkpoints").glob("*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (killed / "result.json").exists(), "it was done before it could be killed"
    run("finetune", path, "--run", killed, "--resume")
    ours, theirs = files_that_must_not_differ(killed), files_that_must_not_differ(whole)
    for mine, other in zip(ours[:2], theirs[:2]):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert ours[2] == theirs[2]


def test_polar_factors_are_orthonormal_in_the_file(run, rows, tiny_archive, tmp_path):
    from safetensors.torch import load_file

    run("finetune", config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", METHODS["polar"]),
        "--run", tmp_path / "run")
    factors = {name: value for name, value in load_file(tmp_path / "run" / "last.safetensors").items()
               if name.endswith(("/X", "/Y"))}
    assert len(factors) > 10
    for name, value in factors.items():
        tall = value if name.endswith("/X") else value.T
        assert torch.allclose(tall.T @ tall, torch.eye(3), atol=1e-6), name
    moved = [v for n, v in load_file(tmp_path / "run" / "last.safetensors").items() if n.endswith("/Theta")]
    assert all(v.abs().max() > 0 for v in moved)


@pytest.mark.parametrize("backend", ["native", "graph"])
def test_eva_starts_where_pca_of_pytorchs_own_inputs_and_peft_start(backend, run, rows, tiny_archive, tiny_folder,
        tmp_path):
    """Oracles: numpy's SVD of all that torch's layers read, row by row; PEFT's own start on one batch of the rows."""
    from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
    from peft.tuners.lora.config import EvaConfig
    from safetensors.torch import load_file
    from transformers import AutoModel

    path = config(tmp_path, tiny_archive("bert", "encoder"), rows, "classification", "method: eva, rank: 3", "steps: 0")
    path.write_text(path.read_text().replace("steps: 12, ", ""))
    run("finetune", path, "--set", f"model.backend={backend}", "--run", tmp_path / "run")
    ours = {name: value for name, value in load_file(tmp_path / "run/adapter.safetensors").items()
            if name.endswith("/A")}
    texts = [json.loads(line)["text"] for line in open(rows["classification", "train"], encoding="utf-8")][:64]
    model = AutoModel.from_pretrained(tiny_folder("bert"), add_pooling_layer=False).eval()
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, torch.nn.Linear) and "encoder" in name}
    read = {name: [] for name in layers}
    hooks = [module.register_forward_hook(lambda _, inputs, __, kept=read[name]: kept.append(inputs[0][0]))
             for name, module in layers.items()]
    with torch.no_grad():
        for text in texts:
            model(**tokenize(tiny_folder("bert"), [text], truncation=True, max_length=24))
    for hook in hooks:
        hook.remove()
    assert len(ours) == len(layers) > 8
    inputs = tokenize(tiny_folder("bert"), texts, truncation=True, max_length=24)
    peft = get_peft_model(model, LoraConfig(r=3, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0),
                                            target_modules=list(layers)))
    initialize_lora_eva_weights(peft, [dict(inputs)], show_progress_bar=False)
    theirs = dict(peft.named_parameters())
    for name, kept in read.items():
        mine = next(value for key, value in ours.items() if f"{name}.weight/" in key).double()
        x = torch.cat(kept).double()
        _, s, vt = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        # How much of the variance the three directions hold is sharp even where two directions are alike.
        held = ((x - x.mean(0)) @ mine.T).square().sum().item()
        assert held == pytest.approx(s[:3].square().sum().item(), rel=1e-3), name
        assert torch.allclose(mine @ mine.T, torch.eye(3, dtype=torch.float64), atol=1e-5), name
        a = next(v for k, v in theirs.items() if f".{name}.lora_A" in k).detach().double()
        assert held >= ((x - x.mean(0)) @ a.T).square().sum().item() * (1 - 1e-3), name
        assert torch.linalg.svdvals(mine @ a.T).min() > .98 or (s[2] - s[3]) / s[2] < .1, name
