"""model.quantize in everything that a run does: comparisons, several processes, chat, exported programs, adapters that
go on from others. Oracles: the plain run of the same configuration, and the run on the values that the codes stand
for."""
from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from test_compare import rows as compared_rows  # noqa: F401 (fixture)
from test_distributed import difference, together
from test_finetune import result, rows  # noqa: F401 (rows is a fixture)
from test_model_folder import finetune, task_of
from test_quantize import losses, with_values

KINDS = ["nf4", "int8"]
METHODS = [("lora", {}), ("rslora", {}), ("lora-plus", {}), ("lora-one", {}), ("polar", {}),
           ("deep-lora", {"depth": 3})]


@pytest.fixture(scope="module")
def trained(run, rows, tmp_path_factory, tiny_folder):  # noqa: F811
    """A language model trained in nf4, and its adapter as a PEFT folder."""
    place = tmp_path_factory.mktemp("trained")
    data, _ = task_of("llama", rows, place)
    finetune(run, place, tiny_folder("llama"), data, "run", "--set", "model.quantize=nf4", "--set", "adapter.rank=3",
             method="lora")
    run("export", place / "run", "--to", "peft", "--output", place / "peft")
    return place, data


def warned(done):
    return [line for line in done.stderr.splitlines() if "warning" in line and "quantize" in line]


@pytest.mark.parametrize("adapter", ["run/adapter.safetensors", "peft"])
@pytest.mark.parametrize("kind", ["none", "int8", "nf4"])
def test_an_adapter_on_other_weights_than_its_own_is_said(adapter, kind, trained, run, tiny_folder, tmp_path):
    place, data = trained
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {{path: {tiny_folder('llama')}, quantize: {kind}}}\ndata: {data}\n"
                      f"adapter: {{path: {place / adapter}, {'' if adapter == 'peft' else 'method: lora, rank: 3'}}}\n"
                      "train: {steps: 0}\n")
    said = warned(run("finetune", config, "--run", tmp_path / "run"))
    if kind == "nf4":
        assert said == []
    else:
        assert len(said) == 1 and f"quantize: nf4, and stands on weights with quantize: {kind}" in said[0], said


def test_a_run_is_used_as_it_was_trained_and_merging_says_that_it_is_not(trained, run, tmp_path):
    place, _ = trained
    assert warned(run("evaluate", place / "run")) == []
    assert len(warned(run("export", place / "run", "--to", "safetensors", "--output", tmp_path / "merged"))) <= 1
    merged = warned(run("export", place / "run", "--output", tmp_path / "merged-folder"))
    assert len(merged) == 1 and "stands on weights with quantize: none" in merged[0]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_what_one_trains(kind, program, run, rows, tiny_folder, tmp_path):  # noqa: F811
    data, _ = task_of("llama", rows, tmp_path)
    alone = finetune(run, tmp_path, tiny_folder("llama"), data, "alone", "--set", f"model.quantize={kind}",
                     method="lora")
    together(program, 2, "finetune", tmp_path / "alone.yaml", "--set", f"model.quantize={kind}", "--run",
             tmp_path / "two")
    assert difference(tmp_path / "alone", tmp_path / "two") < 1e-5 and len(alone) > 0
    assert result(tmp_path / "two")["best"]["loss"] == pytest.approx(result(tmp_path / "alone")["best"]["loss"],
                                                                     rel=1e-5)
    for name in ("alone", "two"):
        scored = json.loads(run("evaluate", tmp_path / name, "--json").stdout)["loss"]
        assert scored == pytest.approx(result(tmp_path / name)["best"]["loss"], rel=1e-5)


def test_every_method_that_adds_to_a_layer_is_compared_quantised(compared_rows, run, tiny_folder,  # noqa: F811
                                                                 tmp_path):
    config = tmp_path / "compare.yaml"
    adapters = {name: json.dumps({"method": name, "rank": 2, **more}) for name, more in METHODS}
    methods = "".join(f"    - {{name: {name}, adapter: {adapter}, lr: [1e-3]}}\n" for name, adapter in adapters.items())
    config.write_text(
        f"model: {{path: {tiny_folder('bert')}, quantize: nf4}}\n"
        f"data: {{task: regression, train: {compared_rows}/train.jsonl, dev: {compared_rows}/dev.jsonl, "
        f"test: {compared_rows}/test.jsonl, max_length: 24}}\nadapter: {{targets: query-value}}\n"
        "train: {steps: 4, batch_size: 8, log_every: 1}\n"
        f"compare:\n  baseline: lora\n  evaluations: 1\n  samples: [16]\n  seeds: [1]\n  methods:\n{methods}")
    run("compare", config, "--run", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {row["method"] for row in found} == {name for name, _ in METHODS}
    files = list((tmp_path / "out").glob("**/adapter.safetensors"))
    assert len(files) >= len(METHODS)
    from safetensors import safe_open

    for file in files:
        with safe_open(file, "pt") as content:
            assert content.metadata()["quantize"] == "nf4"
        assert load_file(file)


def test_chat_answers_as_predict_does(trained, run):
    place, _ = trained
    short = ["--set", "data.generation.max_new_tokens=6"]
    (place / "prompt.jsonl").write_text(json.dumps({"prompt": "the red house"}) + "\n")
    expected = json.loads(run("predict", place / "run", "--input", place / "prompt.jsonl", *short).stdout)["text"]
    assert run("chat", place / "run", *short, input="the red house\n").stdout.strip() == expected.strip()


def test_an_exported_program_trains_as_the_program_of_the_values(run, rows, tiny_folder, tiny_program,  # noqa: F811
                                                                 tmp_path):
    import export_torchscript

    data, _ = task_of("gpt2", rows, tmp_path)
    values = with_values(run, tiny_folder("gpt2"), tmp_path / "values", "nf4")
    export_torchscript.export(str(values), str(tmp_path / "values.pt2"), "causal-lm", None)
    expected = finetune(run, tmp_path, tmp_path / "values.pt2", data, "of-values", method="lora")
    found = finetune(run, tmp_path, tiny_program("gpt2", "causal-lm"), data, "quantized", "--set",
                     "model.quantize=nf4", method="lora")
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
