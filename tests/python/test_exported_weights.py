"""Folders of merged weights as transformers opens them: every name, the labels, the dtype; and sums that a dtype cannot hold."""
from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from test_peft_folders import TASK, case  # noqa: F401 (fixture)


@pytest.mark.parametrize("model", ["bert", "qwen2", "llama", "gpt2", "t5"])
def test_nothing_is_missing_and_nothing_unexpected(model, run, case, tmp_path):
    import transformers as t

    c = case(model)
    run("finetune", c.config(tmp_path / "c.yaml", "method: lora, rank: 2, targets: attention-mlp", "steps: 3"), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    auto = {"bert": t.AutoModelForSequenceClassification, "t5": t.AutoModelForSeq2SeqLM}.get(model, t.AutoModelForCausalLM)
    loaded, report = auto.from_pretrained(tmp_path / "out", output_loading_info=True, attn_implementation="eager")
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    expected = c.archive_logits(tmp_path / "merged.pt")
    assert (c.logits(loaded.eval()) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert set(load_file(tmp_path / "out/model.safetensors")) == set(load_file(c.folder / "model.safetensors"))
    assert auto.__name__ in (tmp_path / "out/README.md").read_text()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [type(loaded).__name__]
    if model == "bert":
        assert config["id2label"] == {"0": "0", "1": "1"} and config["label2id"] == {"0": 0, "1": 1} and config["problem_type"] == "single_label_classification"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_keep_the_archives_dtype(dtype, run, tiny_folder, tmp_path):
    import export_torchscript
    import transformers

    export_torchscript.export(str(tiny_folder("llama")), str(tmp_path / "model.pt"), dtype=dtype)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5, 6, 7 + i], "labels": [5, 6, 7 + i]}) + "\n" for i in range(4)))
    path = tmp_path / "c.yaml"
    path.write_text(f"model: {{path: {tmp_path}/model.pt}}\ndata: {{task: causal-lm, train: {rows}}}\nadapter: {{method: lora, rank: 2}}\ntrain: {{steps: 2, lr: 0.01}}\n")
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    wanted = getattr(torch, dtype)
    assert {value.dtype for value in load_file(tmp_path / "out/model.safetensors").values()} == {wanted}
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == wanted


@pytest.mark.parametrize("form", ["safetensors", "torchscript"])
def test_sums_beyond_the_dtype_are_an_error(form, run, tiny_folder, tmp_path):
    import export_torchscript

    export_torchscript.export(str(tiny_folder("bert")), str(tmp_path / "model.pt"), "classifier", 2, dtype="float16")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5, 6, 7 + i], "label": f"c{i % 2}"}) + "\n" for i in range(4)))
    path = tmp_path / "c.yaml"
    path.write_text(f"model: {{path: {tmp_path}/model.pt}}\ndata: {{task: classification, train: {rows}}}\nadapter: {{method: lora, rank: 2, targets: [query]}}\ntrain: {{steps: 1, lr: 0.01}}\n")
    run("finetune", path, "--run", tmp_path / "run")
    from safetensors.torch import save_file

    for name in ("adapter.safetensors", "last.safetensors"):
        with safe_open(tmp_path / "run" / name, "pt") as file:
            values, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
        values = {key: torch.full_like(value, 300.0) if key.startswith("adapter/") else value for key, value in values.items()}
        save_file(values, tmp_path / "run" / name, metadata)
    output = tmp_path / ("out" if form == "safetensors" else "out.pt")
    said = run("export", tmp_path / "run", "--to", form, "--output", output, code=1).stderr
    assert "more than the archive's Half holds" in said and "query.weight" in said and not output.exists()
