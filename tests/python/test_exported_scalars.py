"""Truth values where operators of exported programs take numbers (full(True), fill with False), as
run_decompositions() makes them of transformers' masks."""
from __future__ import annotations

import pytest
import torch
from torch import nn

import graph_oracle

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS, WIDTH = 60, 8


class Masks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.fc = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids, attention_mask):
        seen = attention_mask == 1
        always = torch.full((), True, device=input_ids.device)  # bool, though nothing says so
        also = seen & torch.ops.aten.full_like.default(seen, True) & always  # all of them bool, so that ~ is "not"
        odd = torch.ops.aten.eq.Scalar(input_ids % 2 == 1, True)
        x = self.fc(self.embed(input_ids)).masked_fill((~also).unsqueeze(-1), False)
        return torch.where((odd & ~torch.full((), False)).unsqueeze(-1), x * 2, x)


@pytest.mark.parametrize("decomposed", [False, True])
def test_truth_values_as_numbers(decomposed, tmp_path):
    model = Masks().double().eval()
    ids = torch.randint(5, WORDS, (2, 7), generator=torch.Generator().manual_seed(1))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                                  dynamic_shapes={"input_ids": free, "attention_mask": free})
    torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "masks.pt2")
    jobs = []
    for i, (rows, tokens) in enumerate([(3, 9), (1, 4), (5, 11)]):
        given = torch.randint(5, WORDS, (rows, tokens), generator=torch.Generator().manual_seed(i))
        mask = torch.ones_like(given)
        mask[0, tokens // 2:] = 0
        jobs.append(graph_oracle.Job(tmp_path / "masks.pt2", model, {"input_ids": given, "attention_mask": mask},
                                     ["all-weights"], tmp_path / "jobs", "lora", tag=f"-{i}"))
    assert all(len(found) >= 2 for found in graph_oracle.run(jobs, tmp_path))


def test_a_truth_value_that_decides_a_type_is_refused_by_name(run, tmp_path):
    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 2)

        def forward(self, input_ids):
            return self.fc(self.embed(input_ids).mean(1) + True)

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Added().eval(), (), {"input_ids": torch.randint(5, WORDS, (2, 7))},
                                  dynamic_shapes={"input_ids": free})
    torch.export.save(program, tmp_path / "added.pt2")
    said = run("inspect", tmp_path / "added.pt2", code=1).stderr
    assert len(said.splitlines()) == 1 and "'other' is a truth value" in said and "ASSERT" not in said
