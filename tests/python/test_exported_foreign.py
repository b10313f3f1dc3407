"""Operators of other libraries that exported programs call: experts as transformers computes them on the CPU
(transformers::grouped_mm_fallback), against the module in PyTorch."""
from __future__ import annotations

import pytest
import torch
from torch import nn

import graph_oracle

transformers_moe = pytest.importorskip("transformers.integrations.moe")
pytestmark = pytest.mark.filterwarnings("ignore")
WORDS, WIDTH, EXPERTS = 60, 8, 4


class Experts(nn.Module):
    """Every token goes to the expert that its router likes best; one expert never gets any."""

    def __init__(self, transposed: bool):
        super().__init__()
        torch.manual_seed(0)
        self.transposed = transposed
        self.embed, self.router = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, EXPERTS)
        shape = (EXPERTS, 12, WIDTH) if transposed else (EXPERTS, WIDTH, 12)
        self.up = nn.Parameter(torch.randn(shape) * 0.4)
        self.down = nn.Linear(12, WIDTH)
        with torch.no_grad():
            self.router.bias[2] = -100.0

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        flat = x.reshape(-1, x.shape[-1])
        chosen = self.router(flat).argmax(-1)
        order = torch.argsort(chosen, stable=True)
        ends = (chosen.unsqueeze(0) <= torch.arange(EXPERTS).unsqueeze(1)).sum(1)
        weight = self.up.transpose(1, 2) if self.transposed else self.up
        found = torch.ops.transformers.grouped_mm_fallback(flat[order], weight, ends)
        y = self.down(torch.tanh(found))[torch.argsort(order)].reshape(x.shape)
        return (x + y) * attention_mask.unsqueeze(-1).to(x.dtype)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_experts_are_those_of_transformers(transposed, dtype, tmp_path):
    model = Experts(transposed).to(dtype).eval()
    ids = torch.randint(5, WORDS, (2, 7), generator=torch.Generator().manual_seed(1))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                                  dynamic_shapes={"input_ids": free, "attention_mask": free})
    torch.export.save(program, tmp_path / "experts.pt2")
    jobs = []
    for i, (rows, tokens) in enumerate([(3, 9), (1, 2), (5, 11)]):
        given = torch.randint(5, WORDS, (rows, tokens), generator=torch.Generator().manual_seed(i))
        jobs.append(graph_oracle.Job(tmp_path / "experts.pt2", model,
                                     {"input_ids": given, "attention_mask": torch.ones_like(given)},
                                     ["all-weights"], tmp_path / "jobs", "lora", tag=f"-{i}"))
    for found in graph_oracle.run(jobs, tmp_path):
        assert len(found) >= 3
