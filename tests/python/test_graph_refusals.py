"""What backend: graph refuses, and that the message says why: one line, exit code 1. What only some weights stand in
the way of is listed by inspect."""
from __future__ import annotations

import json
import random

import pytest
import torch
from torch import nn

import graph_models
from graph_models import WORDS, LoopedTransformer, Recurrent, sample

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(module, path):
    torch.jit.save(module, str(path))
    return path


def dynamically_quantised(folder):
    model = torch.ao.quantization.quantize_dynamic(LoopedTransformer().eval(), {nn.Linear}, dtype=torch.qint8)
    return saved(torch.jit.script(model), folder / "quantised.pt")


def traced_quantised(folder):
    model = torch.ao.quantization.quantize_dynamic(LoopedTransformer().eval(), {nn.Linear}, dtype=torch.qint8)
    return saved(torch.jit.trace(model, sample(), check_trace=False), folder / "quantised.pt")


def quantised_lstm(folder):
    model = torch.ao.quantization.quantize_dynamic(Recurrent().eval(), {nn.LSTM}, dtype=torch.qint8)
    return saved(torch.jit.script(model), folder / "quantised.pt")


def fixed_batch(folder):
    class Fixed(LoopedTransformer):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask) + torch.zeros(int(input_ids.size(0)), 1)

    return saved(torch.jit.trace(Fixed().eval(), sample(), check_trace=False), folder / "fixed.pt")


def fixed_length(folder):
    class Fixed(LoopedTransformer):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids + torch.zeros(int(input_ids.size(1)), dtype=torch.int64), attention_mask)

    return saved(torch.jit.trace(Fixed().eval(), sample(), check_trace=False), folder / "fixed.pt")


def in_training_mode(folder):
    return saved(torch.jit.trace(LoopedTransformer().train(), sample(), check_trace=False), folder / "training.pt")


def chosen_at_run_time(folder):
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.calls = nn.Embedding(WORDS, 8), 0

        def forward(self, input_ids, attention_mask):
            self.calls = self.calls + 1
            return self.embed(input_ids).mean(1)

    return saved(torch.jit.script(Chooses().eval()), folder / "changes.pt")


def no_matrix(folder):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.scale = nn.Parameter(torch.randn(50, 4)), nn.Parameter(torch.randn(4))

        def forward(self, input_ids):
            return self.scale * self.places.argmax(1)[input_ids].unsqueeze(-1)

    return saved(torch.jit.script(Counts().eval()), folder / "counts.pt")


REFUSED = {
    "dynamically quantised, scripted": (dynamically_quantised, "before it is quantised"),
    "dynamically quantised, traced": (traced_quantised, "before it is quantised"),
    "quantised LSTM": (quantised_lstm, "before it is quantised"),
    "batch baked in": (fixed_batch, "baked in"),
    "length baked in": (fixed_length, "baked in"),
    "traced in training mode": (in_training_mode, "traced in training mode; call .eval()"),
    "changes itself": (chosen_at_run_time, "its forward changes its own attribute 'calls'"),
    "nothing to adapt": (no_matrix,
                         "no weight can be adapted; places is read by argmax, from where no gradient comes back"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_says_why(case, run, tmp_path):
    make, expected = REFUSED[case]
    torch.manual_seed(0)
    rng = random.Random(1)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [rng.randrange(5, WORDS) for _ in range(6)], "label": i % 2})
                            + "\n" for i in range(8)))
    (tmp_path / "config.yaml").write_text(f"""model: {{path: {make(tmp_path)}, backend: graph}}
data: {{task: classification, train: {rows}}}
train: {{steps: 1, batch_size: 4}}
""")
    failed = run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run", code=1)
    lines = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and expected in lines[0], failed.stderr
    assert "Exception raised" not in failed.stderr and not list((tmp_path / "run").glob("adapter*"))


@pytest.mark.parametrize("case", ["dynamically quantised, traced", "nothing to adapt"])
def test_inspect_gives_the_same_reason_and_succeeds(case, run, tmp_path):
    make, expected = REFUSED[case]
    seen = json.loads(run("inspect", make(tmp_path), "--json").stdout)
    assert seen["backend"] == "none" and expected in seen["reason"] and seen["sites"] == []
    assert expected in run("inspect", tmp_path / next(tmp_path.glob("*.pt")).name).stdout


def test_constants_and_buffers_beside_parameters_are_listed(run, tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.own = nn.Embedding(WORDS, 8), nn.Linear(8, 8)
            self.register_buffer("table", torch.randn(8, 8))
            self.closed = [torch.randn(8, 8)]

        def forward(self, input_ids, attention_mask):
            x = self.own(self.embed(input_ids)) @ self.table
            return torch.nn.functional.linear(x, self.closed[0]).mean(1)

    archive = saved(torch.jit.trace(Mixed().eval(), sample(), check_trace=False), tmp_path / "mixed.pt")
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert sorted(site["path"] for site in seen["sites"]) == ["CONSTANTS.c0", "embed.weight", "own.weight"]
    reasons = {other["path"]: other["reason"] for other in seen["not_adaptable"]}
    assert "is a buffer" in reasons["table"]


def test_inspect_reads_models_with_inputs_of_any_name_and_kind(run, tmp_path):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, pixels, scale: float):
            return self.head(self.conv(pixels).mean((2, 3)) * scale)

    archive = saved(torch.jit.script(Image().eval()), tmp_path / "image.pt")
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert sorted((s["path"], s["op"], s["kind"], s["shape"], s["role"], s["uses"]) for s in seen["sites"]) == [
        ("conv.weight", "conv2d", "weight", [4, 27], "convolution", 1), ("head.weight", "linear", "linear", [5, 4],
            "head", 1)]
    said = run("inspect", archive).stdout
    assert "head.weight" in said and "all-linear      0 weights" in said and "all-weights     1 weights" in said


def test_shared_classes_loops_and_ties_are_followed(run, tmp_path):
    graph_models.save("shared-blocks", tmp_path / "m.pt", torch.float32)
    sites = {site["path"]: site for site in json.loads(run("inspect", tmp_path / "m.pt", "--json").stdout)["sites"]}
    assert sites["embed.weight"]["uses"] == 2 and sites["embed.weight"]["role"] == "embedding"
    assert set(sites) == {"embed.weight", *(f"{block}.{layer}.weight" for block in ("first", "second") for layer
                                            in ("fc1", "fc2"))}


def test_rows_of_a_fused_weight_without_a_known_layout(run, tmp_path):
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.qkv = nn.Embedding(WORDS, 8), nn.Linear(8, 24)

        def forward(self, input_ids, attention_mask):
            query, key, value = self.qkv(self.embed(input_ids)).chunk(3, -1)
            return (torch.softmax(query @ key.transpose(1, 2), -1) @ value).mean(1)[:, :2]

    torch.manual_seed(0)
    archive = saved(torch.jit.script(Fused().eval()), tmp_path / "fused.pt")
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert seen["targets"]["query-value"] == [] and "adapter.fused_layout" in seen["targets_unavailable"]["query-value"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5 + i, 6, 7], "label": i % 2}) + "\n" for i in range(8)))
    (tmp_path / "config.yaml").write_text(f"""model: {{path: {archive}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{method: deep-lora, compress: true, rank: 2, targets: query-value}}
train: {{steps: 3, batch_size: 4, lr: 0.1}}
""")
    failed = run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run", code=1)
    assert ("wants rows of the fused weight qkv.weight, but how its rows are shared" in failed.stderr
            and "adapter.fused_layout" in failed.stderr)
    run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run", "--set", "adapter.fused_layout=blocks")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    before, after = (torch.jit.load(str(p)).qkv.weight.detach().chunk(3, 0) for p in (archive, tmp_path / "merged.pt"))
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1], after[1]) and not torch.equal(before[2],
        after[2])
