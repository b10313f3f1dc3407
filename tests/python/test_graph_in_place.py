"""In-place operators behind adapted layers, as a model's own code may have them. Oracle: the same model without them,
to the bit."""
from __future__ import annotations

import json
import random

import pytest
import torch
from torch import nn

WORDS, WIDTH = 60, 16
# Every method that adapts weights, with dropout where it takes another way.
ADAPTERS = {"lora": "method: lora, rank: 2", "lora-dropout": "method: lora, rank: 2, dropout: 0.2",
            "rslora": "method: rslora, rank: 2",
            "lora-plus": "method: lora-plus, rank: 2", "lora-one": "method: lora-one, rank: 2",
            "lora-ga": "method: lora-ga, rank: 2", "eva": "method: eva, rank: 2",
            "dora": "method: dora, rank: 2",
            "pissa": "method: pissa, rank: 2", "polar": "method: polar, rank: 2",
            "deep-lora": "method: deep-lora, rank: 2, depth: 4",
            "compressed": "method: deep-lora, rank: 2, compress: true", "full": "method: full"}


class Layers(nn.Module):
    """A chain of linear layers and a 1 x 1 convolution, each with another operator behind it that changes its output:
    in place, or not."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.in_place = in_place
        self.embed = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(7)])
        self.pointwise = nn.Conv1d(WIDTH, WIDTH, 1)
        self.relu = nn.ReLU(inplace=in_place)
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        if self.in_place:
            x *= 1.5
            x = x + self.relu(self.layers[0](x))
            y = self.layers[1](x)
            y += x
            x = torch.relu_(self.layers[2](y)) + y
            x = self.layers[3](x).mul_(2.0)
            h = self.layers[4](x)
            h[:, :, 0] = 0.5
            h = self.layers[5](h)
            h.masked_fill_(attention_mask.unsqueeze(-1) == 0, 0.25)
            h = self.pointwise(h.transpose(1, 2)).transpose(1, 2)
            h.tanh_()
            x = self.layers[6](h).sub_(h)
        else:
            x = x * 1.5
            x = x + self.relu(self.layers[0](x))
            y = self.layers[1](x) + x
            x = torch.relu(self.layers[2](y)) + y
            x = self.layers[3](x) * 2.0
            h = self.layers[4](x)
            h = torch.cat([torch.full_like(h[:, :, :1], 0.5), h[:, :, 1:]], -1)
            h = self.layers[5](h).masked_fill(attention_mask.unsqueeze(-1) == 0, 0.25)
            h = torch.tanh(self.pointwise(h.transpose(1, 2)).transpose(1, 2))
            x = self.layers[6](h) - h
        out = self.classifier((x * keep).sum(1) / keep.sum(1))
        return out.mul_(0.5) if self.in_place else out * 0.5


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("in-place") / "rows.jsonl", random.Random(1)
    lines = []
    for _ in range(24):
        ids = [rng.randrange(1, WORDS) for _ in range(rng.randint(2, 8))]
        lines.append(json.dumps({"input_ids": ids, "label": sum(ids) % 2}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """(kind, in place) -> file"""
    folder, out = tmp_path_factory.mktemp("archives"), {}
    ids = torch.randint(1, WORDS, (2, 7), generator=torch.Generator().manual_seed(0))
    for in_place in (True, False):
        torch.manual_seed(0)
        model = Layers(in_place).eval()
        for kind in ("script", "trace"):
            module = torch.jit.script(model) if kind == "script" else torch.jit.trace(model,
                (ids, torch.ones_like(ids)), check_trace=False)
            out[kind, in_place] = folder / f"{kind}-{in_place}.pt"
            torch.jit.save(module, str(out[kind, in_place]))
    return out


def losses(run, archive, rows, adapter, folder, precision="float32"):
    targets = "" if "full" in adapter else ", targets: ['*']"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"""model: {{path: {archive}, precision: {precision}}}
data: {{task: classification, train: {rows}, dev: {rows}, max_length: 24}}
adapter: {{{adapter}{targets}}}
train: {{steps: 6, batch_size: 8, lr: 0.01, eval_every: 6, log_every: 1, seed: 5}}
""")
    run("finetune", folder / "config.yaml", "--run", folder / "run")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_a_model_with_in_place_operators_trains_like_one_without(name, kind, run, rows, archives, tmp_path):
    curves = [losses(run, archives[kind, in_place], rows, ADAPTERS[name], tmp_path / str(in_place)) for in_place
              in (True, False)]
    assert len(curves[0]) == 6 and len(set(curves[0])) > 1
    assert curves[0] == curves[1]


def test_in_bfloat16_too(run, rows, archives, tmp_path):
    curves = [losses(run, archives["script", in_place], rows, ADAPTERS["lora"], tmp_path / str(in_place),
                     "bfloat16-always") for in_place in (True, False)]
    assert curves[0] == curves[1] and len(set(curves[0])) > 1


def test_every_method_that_adapts_weights_is_among_them(run, tmp_path):
    (tmp_path / "c.yaml").write_text("adapter: {method: unknown}\n")
    said = run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "run", code=1).stderr
    known = set(said.partition("adapter.method: expected one of ")[2].split(", found")[0].split(", "))
    assert known - {"none"} == {adapter.split(",")[0].removeprefix("method: ") for adapter in ADAPTERS.values()}, said
