"""Programs of torch.export with bounds, and with weights of few bits: trained and merged within their bounds, else an
error of one line that helps."""
from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from test_exported_programs import (FREE, WIDTH, Encoder, in_python, predictions, program_of, rows, sample,
                                    saved, train)

pytestmark = pytest.mark.filterwarnings("ignore")
__all__ = ["rows"]  # a fixture
Dim = torch.export.Dim


def refusal(run, model, data, folder, *settings) -> str:
    done = run("finetune", "--model", model, "--train", data, "--dev", data, "--task", "classification", "--steps", "2",
               "--run", folder, *(part for setting in settings for part in ("--set", setting)), code=1)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Exception" not in done.stderr, done.stderr
    return lines[0]


def test_at_most_four_rows(run, rows, tmp_path):
    program = program_of(Encoder(), shapes=({0: Dim("rows", min=1, max=4), 1: Dim.DYNAMIC},) * 2)
    model = saved(tmp_path, program)
    said = refusal(run, model, rows, tmp_path / "more")
    assert "exported for 0 to 4 in dimension 0; set train.batch_size and train.eval_batch_size to 4 at most" in said
    train(run, model, rows, tmp_path / "run", "train.batch_size=4", "train.eval_batch_size=4")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")  # which compares the two on rows of its own
    assert torch.export.load(tmp_path / "merged.pt2")


@pytest.mark.parametrize("least, most", [(2, 9), (14, 30)])
def test_lengths_between_bounds(least, most, run, tmp_path):
    shape = ({0: Dim.DYNAMIC, 1: Dim("tokens", min=least, max=most)},) * 2
    model = saved(tmp_path, program_of(Encoder(), *sample(least + 3), shapes=shape))
    data = tmp_path / "rows.jsonl"

    def write(length):
        lines = [{"input_ids": [5 + (3 * i + k) % 50 for k in range(length)], "label": "ab"[i % 2]} for i in range(8)]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))

    write(least + 4)
    train(run, model, data, tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(predictions(run, tmp_path / "merged.pt2", data), predictions(run, tmp_path / "run",
        data), rtol=0, atol=1e-5)
    write(most + 1)
    assert f"{most} in dimension 1; cut texts with data.max_length" in refusal(run, model, data, tmp_path / "long")
    if least > 2:
        write(least - 1)
        assert f"exported for {least} to {most} in dimension 1; export it for fewer" in refusal(run, model, data,
            tmp_path / "short")


class EightBits(Encoder):
    """A layer whose weights torchao would hold in 8 bits: its product has no backward pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("packed", torch.randint(-127, 127, (WIDTH, WIDTH), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(WIDTH) / 100)

    def forward(self, input_ids, attention_mask):
        x = self.states(input_ids, attention_mask)
        return torch.ops.aten._weight_int8pack_mm(x.reshape(-1, WIDTH), self.packed, self.scales).view(x.shape)


def test_products_of_few_bits_are_refused_by_name(run, rows, tmp_path):
    said = refusal(run, saved(tmp_path, program_of(EightBits())), rows, tmp_path / "run")
    assert "_weight_int8pack_mm" in said and "no backward pass" in said, said


def test_a_buffer_of_8_bits_is_carried_through(run, rows, tmp_path):
    class Scaled(Encoder):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", (torch.randn(WIDTH, WIDTH) / 4).to(torch.float8_e4m3fn))

        def forward(self, input_ids, attention_mask):
            return nn.functional.linear(self.states(input_ids, attention_mask), self.table.to(torch.float32))

    train(run, saved(tmp_path, program_of(Scaled())), rows, tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(in_python(tmp_path / "merged.pt2", rows), predictions(run, tmp_path / "run", rows),
                               rtol=0, atol=1e-5)


def test_what_is_no_program_is_told_how_one_is_made(run, tmp_path):
    (tmp_path / "notes.pt2").write_text("no program")
    torch.save(Encoder().state_dict(), tmp_path / "weights.pt2")
    for name in ("notes.pt2", "weights.pt2"):
        assert "torch.export.save" in run("inspect", tmp_path / name, code=1).stderr


def test_inspect_shows_the_sizes(run, tmp_path):
    said = run("inspect", saved(tmp_path, program_of(Encoder(), shapes=(FREE, FREE)))).stdout
    assert "input_ids [any, any], attention_mask [any, any]" in said
    assert json.loads(run("inspect", tmp_path / "model.pt2", "--json").stdout)["input_sizes"]["input_ids"] == \
        "[any, any]"
