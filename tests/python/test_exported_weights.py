"""Folders of merged weights as transformers opens them: every name, the labels, the dtype; and sums that a dtype cannot
hold."""
from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from test_peft_folders import assert_close, case, peft_folder, with_peft  # noqa: F401 (fixture)


@pytest.mark.parametrize("model", ["bert", "qwen2", "llama", "gpt2", "t5"])
def test_nothing_is_missing_and_nothing_unexpected(model, run, case, tmp_path):
    import transformers as t

    c = case(model)
    run("finetune", c.config(tmp_path / "c.yaml", "method: lora, rank: 2, targets: attention-mlp", "steps: 3"), "--run",
        tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    auto = {"bert": t.AutoModelForSequenceClassification, "t5": t.AutoModelForSeq2SeqLM}.get(model,
        t.AutoModelForCausalLM)
    loaded, report = auto.from_pretrained(tmp_path / "out", output_loading_info=True, attn_implementation="eager")
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    expected = c.archive_logits(tmp_path / "merged.pt")
    assert (c.logits(loaded.eval()) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert set(load_file(tmp_path / "out/model.safetensors")) == set(load_file(c.folder / "model.safetensors"))
    assert auto.__name__ in (tmp_path / "out/README.md").read_text()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [type(loaded).__name__]
    if model == "bert":
        assert config["id2label"] == {"0": "0", "1": "1"} and config["label2id"] == {"0": 0,
            "1": 1} and config["problem_type"] == "single_label_classification"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_keep_the_archives_dtype(dtype, run, tiny_folder, tmp_path):
    import export_torchscript
    import transformers

    export_torchscript.export(str(tiny_folder("llama")), str(tmp_path / "model.pt"), dtype=dtype)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5, 6, 7 + i], "labels": [5, 6, 7 + i]}) + "\n" for i in range(4)))
    path = tmp_path / "c.yaml"
    path.write_text(f"model: {{path: {tmp_path}/model.pt}}\ndata: {{task: causal-lm, train: {rows}}}\nadapter: "
                    f"{{method: lora, rank: 2}}\ntrain: {{steps: 2, lr: 0.01}}\n")
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
    path.write_text(f"model: {{path: {tmp_path}/model.pt}}\ndata: {{task: classification, train: {rows}}}\nadapter: "
                    f"{{method: lora, rank: 2, targets: [query]}}\ntrain: {{steps: 1, lr: 0.01}}\n")
    run("finetune", path, "--run", tmp_path / "run")
    from safetensors.torch import save_file

    for name in ("adapter.safetensors", "last.safetensors"):
        with safe_open(tmp_path / "run" / name, "pt") as file:
            values, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
        values = {key: torch.full_like(value, 300.0) if key.startswith("adapter/") else value for key,
                  value in values.items()}
        save_file(values, tmp_path / "run" / name, metadata)
    output = tmp_path / ("out" if form == "safetensors" else "out.pt")
    said = run("export", tmp_path / "run", "--to", form, "--output", output, code=1).stderr
    assert "more than the model's Half holds" in said and "query.weight" in said and not output.exists()


def of_folder(c, path, adapter, extra="steps: 4"):
    c.config(path, adapter, extra)
    path.write_text(path.read_text().replace(f"path: {c.archive}", f"path: {c.folder}"))
    return path


def in_transformers(c, folder):
    return c.logits(type(c.base()).from_pretrained(folder, attn_implementation="eager").eval())


@pytest.mark.parametrize("model", ["bert", "qwen2", "llama", "gpt2", "t5"])
def test_runs_on_a_folder_are_exported_like_those_on_an_archive(model, run, case, tmp_path):
    c = case(model)
    before = {file.name: file.read_bytes() for file in c.folder.iterdir()}
    run("finetune", of_folder(c, tmp_path / "c.yaml", "method: lora, rank: 2, targets: attention-mlp"), "--run",
        tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "peft")
    assert {file.name: file.read_bytes() for file in c.folder.iterdir()} == before
    assert set(load_file(tmp_path / "out/model.safetensors")) == set(load_file(c.folder / "model.safetensors"))
    assert json.loads((tmp_path / "peft/adapter_config.json").read_text())["base_model_name_or_path"] == str(c.folder)
    merged = in_transformers(c, tmp_path / "out")
    assert (merged - c.logits(c.base())).abs().max() > 1e-3 * merged.abs().max()
    assert_close(with_peft(c, tmp_path / "peft"), merged, 2e-5)
    if model == "bert":
        lines = run("predict", tmp_path / "run", "--input", c.rows).stdout.splitlines()
        assert_close(torch.tensor([json.loads(line)["logits"] for line in lines]), merged, 2e-5)


@pytest.mark.parametrize("model, options", [("bert", {"use_dora": True}), ("qwen2", {}),
                                            ("llama", {"use_rslora": True}), ("gpt2", {}), ("t5", {})])
def test_peft_folders_start_runs_on_a_folder(model, options, run, case, tmp_path):
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", **options)
    run("finetune", of_folder(c, tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}", "steps: 0"), "--run",
        tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    assert_close(in_transformers(c, tmp_path / "out"), expected)


def test_tied_tables_of_a_folder_have_no_place_in_peft_folders(run, case, tmp_path):
    """The folder names the table once, so the modules that PEFT would need factors for are not known."""
    c = case("qwen2")
    run("finetune", of_folder(c, tmp_path / "c.yaml", "method: lora, rank: 2, targets: [embedding]"), "--run",
        tmp_path / "run")
    said = run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "out", code=1).stderr
    assert "embed_tokens" in said and "2 places" in said and not (tmp_path / "out").exists()
    peft_folder(c, tmp_path / "peft", target_modules=["embed_tokens"])
    said = run("finetune", of_folder(c, tmp_path / "d.yaml", f"path: {tmp_path / 'peft'}", "steps: 0"), "--run",
               tmp_path / "other", code=1).stderr
    assert "this weight is tied" in said
