"""Programs of torch.export that take tensors from rows: which of their sizes may be fixed, which go together, what is
refused; and sizes that are expressions of free ones."""
from __future__ import annotations

import json
import random

import pytest
import torch
from torch import nn

FREE = torch.export.Dim.DYNAMIC
pytestmark = pytest.mark.filterwarnings("ignore")


class Picture(nn.Module):
    """A stack of convolutions and batch norms, as vision models have it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
                                  nn.Conv2d(8, 16, 3, 2, 1, groups=2), nn.BatchNorm2d(16), nn.SiLU())
        self.classifier = nn.Linear(16, 2)

    def forward(self, pixel_values):
        return {"logits": self.classifier(nn.functional.adaptive_avg_pool2d(self.body(pixel_values), 1).flatten(1))}


class Halves(nn.Module):
    """Pairs of neighbours: the length is twice a number."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        rows, length, _ = x.shape
        return self.fc(x.reshape(rows, length // 2, 8)).mean(1)


class Two(nn.Module):
    """Two sequences of one length."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, left, right):
        return self.fc(torch.cat([left, right], -1)).mean(1)


def saved(folder, module, inputs, shapes):
    torch.manual_seed(0)
    program = torch.export.export(module.eval(), (), inputs, dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def write_rows(folder, fields, count=8):
    """`fields`: name -> sizes of one row."""
    rng = random.Random(5)

    def numbers(sizes):
        return round(rng.gauss(0, 1), 2) if not sizes else [numbers(sizes[1:]) for _ in range(sizes[0])]

    rows = [{**{name: numbers(sizes) for name, sizes in fields.items()}, "label": "ab"[i % 2]} for i in range(count)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl", rows


def train(run, model, rows, folder, *more, code=0):
    return run("finetune", "--model", model, "--train", rows, "--dev", rows, "--task", "classification", "--steps", "4",
               "--lr", "0.02", "--run", folder, "--set", "adapter.targets=all-weights",
               "--set", "adapter.rank=2", *more, code=code)


def merged_like_live(run, model, fields, folder):
    data, rows = write_rows(folder, fields)
    train(run, model, data, folder / "run")
    run("export", folder / "run", "--output", folder / "merged.pt2")
    live = torch.tensor([json.loads(line)["logits"] for line
                         in run("predict", folder / "run", "--input", data).stdout.splitlines()])
    given = {name: torch.tensor([row[name] for row in rows]) for name in fields}
    outputs = {}
    for path in (model, folder / "merged.pt2"):
        with torch.no_grad():
            result = torch.export.load(path).module()(**given)
        outputs[path] = result["logits"] if isinstance(result, dict) else result
    torch.testing.assert_close(outputs[folder / "merged.pt2"], live, rtol=0, atol=1e-5)
    assert (outputs[model] - live).abs().max() > 1e-3


def test_pictures_of_one_size(run, tmp_path):
    model = saved(tmp_path, Picture(), {"pixel_values": torch.randn(2, 3, 8, 8)}, {"pixel_values": {0: FREE}})
    assert "pixel_values [any, 3, 8, 8]" in run("inspect", model).stdout
    merged_like_live(run, model, {"pixel_values": [3, 8, 8]}, tmp_path)
    other, _ = write_rows(tmp_path, {"pixel_values": [3, 8, 6]})
    said = train(run, model, other, tmp_path / "other", code=1).stderr
    assert "exported for [any, 3, 8, 8], which dimension 3 does not fit" in said, said


def test_pictures_of_any_size(run, tmp_path):
    model = saved(tmp_path, Picture(), {"pixel_values": torch.randn(2, 3, 8, 8)},
                  {"pixel_values": {0: FREE, 2: FREE, 3: FREE}})
    merged_like_live(run, model, {"pixel_values": [3, 6, 10]}, tmp_path)


def test_one_picture_at_a_time_is_refused(run, tmp_path):
    model = saved(tmp_path, Picture(), {"pixel_values": torch.randn(1, 3, 8, 8)}, None)
    data, _ = write_rows(tmp_path, {"pixel_values": [3, 8, 8]})
    said = train(run, model, data, tmp_path / "run", code=1).stderr
    assert "has sizes [1, 3, 8, 8], which were baked in; the number of rows, its first size, must be free" in said, said
    assert "dynamic_shapes" in said


def test_sizes_that_are_multiples(run, tmp_path):
    half = torch.export.Dim("half")
    model = saved(tmp_path, Halves(), {"x": torch.randn(2, 6, 4)}, {"x": {0: torch.export.Dim("rows"), 1: 2 * half}})
    assert "x [any, 2*n, 4]" in run("inspect", model).stdout
    merged_like_live(run, model, {"x": [10, 4]}, tmp_path)
    odd, _ = write_rows(tmp_path, {"x": [7, 4]})
    said = train(run, model, odd, tmp_path / "odd", code=1).stderr
    assert "exported for [any, 2*n, 4], which dimension 1 does not fit" in said, said


def test_sizes_that_go_together(run, tmp_path):
    free = {0: FREE, 1: FREE}
    model = saved(tmp_path, Two(), {"left": torch.randn(2, 5, 4), "right": torch.randn(2, 5, 4)},
                  {"left": free, "right": free})
    merged_like_live(run, model, {"left": [6, 4], "right": [6, 4]}, tmp_path)
    odd, _ = write_rows(tmp_path, {"left": [6, 4], "right": [1, 4]})  # which would be repeated
    said = train(run, model, odd, tmp_path / "odd", code=1).stderr
    assert "dimension 1 goes with one of left in the exported model, where it would be 6" in said, said


def test_tokens_of_even_lengths_are_refused_in_plain_words(run, tmp_path):
    class Pairs(Halves):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(60, 4)

        def forward(self, input_ids):
            return super().forward(self.embed(input_ids))

    half = torch.export.Dim("half")
    model = saved(tmp_path, Pairs(), {"input_ids": torch.ones(2, 6, dtype=torch.int64)},
                  {"input_ids": {0: torch.export.Dim("rows"), 1: 2 * half}})
    rows = tmp_path / "ids.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5 + i] * 4, "label": "ab"[i % 2]}) + "\n" for i in range(8)))
    said = train(run, model, rows, tmp_path / "run", code=1).stderr
    assert "its input 'input_ids' has sizes [any, 2*n]; batches and lengths must be free" in said, said


class Joined(nn.Module):
    """A U-shaped network: what is halved and doubled again must have the size that it had."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 2, 2)
        self.classifier = nn.Linear(7, 2)

    def forward(self, image):
        joined = torch.cat([image, self.up(torch.relu(self.down(image)))], 1)
        return self.classifier(nn.functional.adaptive_avg_pool2d(joined, 1).flatten(1))


def test_what_a_program_asks_of_its_sizes(run, tmp_path):
    """Its guards, which torch.export.load checks too."""
    model = saved(tmp_path, Joined(), {"image": torch.randn(2, 3, 8, 8)}, {"image": {0: FREE, 2: FREE, 3: FREE}})
    merged_like_live(run, model, {"image": [3, 6, 10]}, tmp_path)
    odd, rows = write_rows(tmp_path, {"image": [3, 6, 7]})
    with pytest.raises(Exception, match="Guard failed"):
        torch.export.load(model).module()(image=torch.tensor([row["image"] for row in rows]))
    said = train(run, model, odd, tmp_path / "odd", code=1).stderr
    assert "the model was exported for sizes with" in said and "image.size(3)" in said, said
