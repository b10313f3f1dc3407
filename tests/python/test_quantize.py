"""model.quantize: int8 and nf4. Oracles: the same run on a folder whose weights are the values that the codes stand
for, which are computed here in plain PyTorch (and are bitsandbytes' own: tests/golden/quantization.json); the weights
of the files plus B A."""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import ROOT
from test_finetune import predictions, result, rows  # noqa: F401  (rows is a fixture)
from test_model_folder import finetune, task_of

NF4 = torch.tensor([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                    -0.18477343022823334,
                    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
                    0.33791524171829224,
                    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])


def dynamic_book():
    """The 256 numbers of block-wise 8-bit quantisation (Dettmers et al. 2022)."""
    values = [0.0, 1.0]
    for power in range(7):
        parts, least = 2**power, torch.tensor(0.1)
        step, i = ((1 - least) / parts).double(), torch.arange(parts + 1)
        # torch.linspace, with fused products
        edges = torch.where(i < (parts + 1) // 2, least.double() + step * i, 1 - step * (parts - i)).float()
        middles = 10.0 ** (power - 6) * ((edges[:-1] + edges[1:]) / 2)
        values += middles.tolist() + (-middles).tolist()
    return torch.tensor(sorted(values), dtype=torch.float32)


def nearest(values, book):
    return torch.bucketize(values, (book[:-1] + book[1:]) / 2)


def blocks_of(flat, size):
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).reshape(-1, size)


def nf4_values(weight):
    flat = weight.float().reshape(-1)
    blocks = blocks_of(flat, 64)
    largest = blocks.abs().amax(1)
    scale = largest.clamp_min(1e-38)
    scaled = (blocks * (1 / scale)[:, None]).clamp(-1, 1)
    if len(flat) % 64:  # the last one is divided
        largest[-1], scaled[-1] = scale[-1], blocks[-1] / scale[-1]
    mean, book = largest.mean(), dynamic_book()
    groups = blocks_of(largest - mean, 256)
    most = groups.abs().amax(1)
    even = ((groups * (1 / most)[:, None]).nan_to_num().clamp(-1, 1) + 1) * 0.5 * 65535 + 0.5
    codes = nearest(-1 + 2 * even.floor() / 65535, book)
    codes[most == 0] = 0
    decoded = (book[codes] * most[:, None]).reshape(-1)[:len(largest)] + mean
    return (NF4[nearest(scaled, NF4)] * decoded[:, None]).reshape(-1)[:len(flat)].reshape(weight.shape)


def int8_values(weight):
    largest = weight.float().abs().amax(1, keepdim=True)
    return torch.round(weight.float() * (127 / largest)).nan_to_num() * largest * 7.874015718698502e-3


VALUES = {"nf4": nf4_values, "int8": int8_values}


@pytest.mark.parametrize("kind", VALUES)
def test_the_values_computed_here_are_those_of_bitsandbytes(kind):
    for case in json.loads((ROOT / "tests/golden/quantization.json").read_text())["cases"]:
        def of(text, dtype):
            return torch.frombuffer(bytearray.fromhex(text), dtype=dtype).reshape(case["shape"])
        weight = of(case["weight"], getattr(torch, case["dtype"]))
        assert torch.equal(VALUES[kind](weight), of(case[kind]["values"], torch.float32)), case["shape"]


sites_of = {}


def quantized_names(run, folder):
    if folder not in sites_of:
        sites_of[folder] = json.loads(run("inspect", folder, "--json").stdout)["sites"]
    return {site["path"]: site["op"] for site in sites_of[folder] if site["op"] in ("linear", "addmm")
            and site["role"] not in ("head", "lm_head")}


def with_values(run, folder, out, kind, dtype=None):
    """A copy of a folder with the quantised values in the weights' places."""
    shutil.copytree(folder, out)
    names = quantized_names(run, folder)
    tensors = load_file(folder / "model.safetensors")
    assert names and set(names) <= set(tensors)
    if "pooler.dense.weight" in tensors:  # of an encoder alone: part of the head that transformers puts on it
        names.setdefault("pooler.dense.weight", "linear")
    for name, op in names.items():
        weight = tensors[name].t() if op == "addmm" else tensors[name]
        values = VALUES[kind](weight.contiguous())
        tensors[name] = (values.t() if op == "addmm" else values).contiguous()
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def losses(metrics):
    return [value for line in metrics for key, value in line.items() if key == "loss" or key.startswith("dev")]


@pytest.fixture(scope="module")
def plain_run(run, rows, tiny_folder, tmp_path_factory):
    """plain_run(name, options): the losses of the same run without a quantisation, whose kind it does not depend on."""
    found = {}

    def losses_of(name, options):
        if (name, *options) not in found:
            place = tmp_path_factory.mktemp("plain")
            found[(name, *options)] = losses(finetune(run, place, tiny_folder(name), task_of(name, rows, place)[0],
                                                    "plain", *options, method="lora"))
        return found[(name, *options)]
    return losses_of


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name, settings", [
    ("llama", ()), ("bert", ()), ("gpt2", ()), ("t5", ()), ("deberta-v2", ()), ("modernbert", ()), ("distilbert", ()),
    ("llama", ("adapter.dropout=0.25",)), ("gpt2", ("adapter.targets=[query]",)),
    ("llama", ("train.gradient_checkpointing=true",)),
    ("llama", ("adapter.method=deep-lora",)), ("bert", ("model.precision=bfloat16-always",)),
    ("llama", ("model.precision=bfloat16-always",))])
def test_a_run_is_that_on_the_values_the_codes_stand_for(kind, name, settings, run, rows, tmp_path, tiny_folder,
                                                         plain_run):
    data, _ = task_of(name, rows, tmp_path)
    options = [word for setting in (*settings, "adapter.rank=3") for word in ("--set", setting)]
    expected = finetune(run, tmp_path, with_values(run, tiny_folder(name), tmp_path / "values", kind), data,
                        "of-values", *options, method="lora")
    found = finetune(run, tmp_path, tiny_folder(name), data, "quantized", *options, "--set", f"model.quantize={kind}",
                     method="lora")
    bound = 2e-2 if any("bfloat16" in setting for setting in settings) else 1e-5
    assert len(losses(found)) >= 6
    assert losses(found) == pytest.approx(losses(expected), rel=bound, abs=bound)
    assert losses(found) != pytest.approx(plain_run(name, options), rel=1e-5, abs=1e-6)


@pytest.fixture(scope="module")
def quantized_run(run, rows, tmp_path_factory, tiny_folder):
    """A language model trained in nf4, and the same on the values."""
    place = tmp_path_factory.mktemp("quantized")
    data, _ = task_of("llama", rows, place)
    settings = ["--set", "adapter.rank=3", "--set", "train.steps=12", "--set", "train.lr=2e-2"]
    finetune(run, place, tiny_folder("llama"), data, "run", *settings, "--set", "model.quantize=nf4", method="lora")
    finetune(run, place, with_values(run, tiny_folder("llama"), place / "values", "nf4"), data, "of-values", *settings,
             method="lora")
    return place


def test_result_and_files_say_what_was_trained_on(quantized_run, run, tiny_folder, tmp_path):
    weights = load_file(tiny_folder("llama") / "model.safetensors")
    names = quantized_names(run, tiny_folder("llama"))
    expected = sum(t.nbytes for name, t in weights.items() if name not in names)
    for name in names:
        blocks = -(-weights[name].numel() // 64)
        expected += (weights[name].numel() + 1) // 2 + blocks + 4 * -(-blocks // 256)
    found = result(quantized_run / "run")
    assert found["model_bytes"] == expected < sum(t.nbytes for t in weights.values())
    assert found["seconds_to_first_step"] > 0 and found["peak_rss_mb"] > 0
    assert result(quantized_run / "of-values")["model_bytes"] == sum(t.nbytes for t in weights.values())

    from safetensors import safe_open
    with safe_open(quantized_run / "run" / "adapter.safetensors", "pt") as file:
        assert file.metadata()["quantize"] == "nf4"
    run("export", quantized_run / "run", "--to", "peft", "--output", tmp_path / "peft")
    with safe_open(tmp_path / "peft" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["quantize"] == "nf4"
    assert "trained on weights in nf4" in (tmp_path / "peft" / "README.md").read_text()


def test_scores_predictions_and_texts_of_a_run_are_those_on_the_values(quantized_run, run):
    texts = quantized_run / "prompts.jsonl"
    texts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("the red house", "the old", "a")))
    scores, said = [], []
    for name in ("run", "of-values"):
        scores.append(json.loads(run("evaluate", quantized_run / name, "--json").stdout)["loss"])
        said.append([json.loads(line)["text"] for line in run("predict", quantized_run / name, "--input",
                                                              texts).stdout.splitlines()])
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert scores[0] == pytest.approx(result(quantized_run / "run")["best"]["loss"], rel=1e-5)
    assert said[0] == said[1] and len(said[0]) == 3


def test_merging_adds_the_update_to_the_weights_of_the_files(quantized_run, run, tiny_folder, tmp_path):
    run("export", quantized_run / "run", "--to", "safetensors", "--output", tmp_path / "merged")
    merged, base = load_file(tmp_path / "merged" / "model.safetensors"), load_file(
        tiny_folder("llama") / "model.safetensors")
    adapter = load_file(quantized_run / "run" / "adapter.safetensors")
    scale = None
    changed = 0
    for name, weight in base.items():
        if f"adapter/{name}/A" not in adapter:
            assert torch.equal(merged[name], weight), name
            continue
        delta = adapter[f"adapter/{name}/B"].double() @ adapter[f"adapter/{name}/A"].double()
        difference = merged[name].double() - weight.double()
        scale = scale or float((difference * delta).sum() / (delta * delta).sum())  # alpha / rank, the same everywhere
        assert torch.allclose(difference, scale * delta, atol=1e-6), name
        changed += 1
    assert changed == 14


def test_an_adapter_that_was_trained_on_four_bits_scores_without_them(quantized_run, run, tmp_path):
    """The merged folder is another model than the one that was trained: close to it, and exactly W + B A on its own."""
    run("export", quantized_run / "run", "--to", "safetensors", "--output", tmp_path / "merged")
    live = json.loads(run("evaluate", quantized_run / "run", "--json").stdout)["loss"]
    merged = json.loads(run("evaluate", tmp_path / "merged", "--data", quantized_run / "texts.txt", "--json").stdout)[
        "loss"]
    assert merged == pytest.approx(live, rel=0.5) and merged != live


@pytest.mark.parametrize("kind", VALUES)
def test_a_killed_run_ends_as_one_that_was_not(kind, run, program, rows, tmp_path, tiny_folder):
    data, _ = task_of("llama", rows, tmp_path)
    settings = ["--set", f"model.quantize={kind}", "--set", "adapter.rank=3", "--set", "train.steps=150", "--set",
                "train.save_every=5"]
    whole = finetune(run, tmp_path, tiny_folder("llama"), data, "whole", *settings, method="lora")
    process = subprocess.Popen([str(program), "finetune", str(tmp_path / "whole.yaml"), *settings, "--run",
                                str(tmp_path / "cut")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    while not any((tmp_path / "cut" / "checkpoints").glob("*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run("finetune", "--run", tmp_path / "cut", "--resume")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a) and len(whole) > 0
    refused = run("finetune", "--run", tmp_path / "cut", "--resume", "--set", "model.quantize=none", code=1)
    assert "model.quantize" in refused.stderr


@pytest.mark.parametrize("settings, words", [
    (("adapter.method=full",), ("model.quantize", "adapter.method: full", "trains the weights themselves",
                                "quantize: none")),
    (("adapter.method=dora",), ("adapter.method: dora", "norms", "lora")),
    (("adapter.method=pissa",), ("adapter.method: pissa", "singular vectors")),
    (("adapter.train_also=['*.q_proj.weight']", "adapter.targets=[value]"), ("adapter.train_also", "q_proj.weight",
        "cannot be trained")),
    (("model.device=cuda",), ("model.quantize", "device: cpu", "cuda")),
    (("model.quantize=int4",), ("model.quantize", "none", "int8", "nf4", "int4")),
])
def test_what_has_no_form_in_fewer_bits_is_refused_by_name(settings, words, run, rows, tmp_path, tiny_folder):
    data, _ = task_of("llama", rows, tmp_path)
    options = [word for setting in ("model.quantize=nf4", *settings) for word in ("--set", setting)]
    done = finetune(run, tmp_path, tiny_folder("llama"), data, "refused", *options, method="lora", code=1)
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stderr.count("error:") == 1 and not (tmp_path / "refused" / "metrics.jsonl").exists()


def test_the_graph_backend_refuses_with_a_hint(run, rows, tmp_path, tiny_archive):
    data, _ = task_of("llama", rows, tmp_path)
    done = finetune(run, tmp_path, tiny_archive("llama", "causal-lm"), data, "refused", "--set", "model.quantize=nf4",
                    "--set", "model.backend=graph",
                    method="lora", code=1)
    assert "model.quantize: nf4 needs a native model family" in done.stderr and "bfloat16" in done.stderr


def test_an_archive_trains_as_the_archive_of_the_values(run, rows, tmp_path, tiny_folder, tiny_archive):
    import export_torchscript

    data, _ = task_of("llama", rows, tmp_path)
    export_torchscript.export(str(with_values(run, tiny_folder("llama"), tmp_path / "values", "nf4")),
                              str(tmp_path / "values.pt"), "causal-lm", None)
    expected = finetune(run, tmp_path, tmp_path / "values.pt", data, "of-values", method="lora")
    found = finetune(run, tmp_path, tiny_archive("llama", "causal-lm"), data, "quantized", "--set",
                     "model.quantize=nf4", method="lora")
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
