"""What exported programs are made of, beside the models of the set: arithmetic of sizes, numbers out of tensors,
indexing and writing in place, lists of tensors, regions without gradients. Each module through the oracle at three
shapes, as exported and decomposed (which takes such regions out)."""
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import graph_oracle

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS, WIDTH = 60, 16
FREE = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
SHAPES = [(3, 6), (1, 4), (5, 12)]  # rows, tokens; the example has two rows of eight


class Layers(nn.Module):
    """Adaptable layers around `middle`, which is what a module here is about."""

    def __init__(self):
        super().__init__()
        self.embed, self.query, self.fc, self.out = nn.Embedding(WORDS, WIDTH), *(nn.Linear(WIDTH, WIDTH) for _
            in range(3))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        x = x + torch.tanh(self.query(x)) * attention_mask.unsqueeze(-1).to(x.dtype)
        return self.out(torch.tanh(self.fc(self.norm(self.middle(x, input_ids, attention_mask)))))


class Sizes(Layers):
    """Every function of sizes that torch.export.save knows."""

    def middle(self, x, ids, mask):
        rows, tokens, width = x.shape
        x = x + F.pad(x, (0, 0, 0, (-tokens) % 4)).mean(1, keepdim=True) + x.reshape(rows * tokens,
            width).view(x.shape) / 3
        x = x / tokens**0.5 * (tokens / (rows + 1)) + tokens**2 / 100
        x = x * torch.sym_max(tokens, 5) / torch.sym_min(tokens, 6) + torch.sym_ite(tokens > 7, tokens,
            rows + 3) + torch.sym_ite(torch.sym_not(tokens < 5), 2, 1)
        x = x * torch.sym_int(tokens * 0.5) / (tokens >> 1)
        return x + (tokens + 20) // 7 + (tokens << 1) / 10 - torch.full((rows, 1, 1), tokens).to(x.dtype) + torch.clamp(
            ids, max=tokens).to(x.dtype).unsqueeze(-1)


class Values(Layers):
    """Numbers that the ids decide."""

    def middle(self, x, ids, mask):
        longest = mask.sum(1).max().item()
        torch._check(longest >= 1)
        torch._check(longest <= x.shape[1])
        x = x + x[:, :longest].mean(1, keepdim=True) * mask.float().mean().item()
        kept = x[mask.bool()]
        return x.masked_scatter(mask.bool().unsqueeze(-1), torch.tanh(kept) * 2)


class Forms(Layers):
    """Lists, indices, writing in place, numbers where tensors are meant."""

    def middle(self, x, ids, mask):
        x = self.query(x)
        x += 1
        x[:, 0] = x[:, 0] * 2
        x.masked_fill_(mask.unsqueeze(-1) == 0, 0.25)
        left, right = x.chunk(2, -1)
        few, many = torch.split(x, [6, 10], -1)
        back = x[:, torch.arange(x.shape[1] - 1, -1, -1)]
        x = torch.cat([right, left], -1) + torch.cat([many, few], -1) + torch.stack(back.unbind(-1), -1)
        largest, places = x.topk(4, -1)
        x = x.scatter_add(-1, places, largest) + torch.einsum("bti,ij->btj", x, self.fc.weight) + F.one_hot(ids % WIDTH,
            WIDTH).to(x.dtype)
        x = torch.where(x > 0, x, 0.1) + torch.where(mask.unsqueeze(-1) == 0, float("-inf"), x).clamp(max=2).exp()
        x = x + torch.div(ids, 3, rounding_mode="floor").to(x.dtype).unsqueeze(-1) * torch.tensor([0.1, 0.2] * 8,
            dtype=x.dtype)
        return F.pad(x, (0, 0, 2, 0)).unfold(1, 3, 1).mean(-1) + x.cumsum(1) / 8


class Regions(Layers):
    """What no gradient comes back from, what one comes back from inside of that, and precision that is named."""

    def middle(self, x, ids, mask):
        with torch.no_grad():
            spread = x.std(-1, keepdim=True) + 1
            with torch.enable_grad():
                inner = torch.tanh(self.fc(x))
            spread = spread + inner.mean(1, keepdim=True).abs()
        with torch.autocast("cpu", enabled=False):
            scores = torch.softmax(self.query(x) @ x.transpose(1, 2) / 4, -1)
        return scores @ x / spread + inner + self.fc(x).detach()


def batch(rows, tokens):
    ids, mask = torch.randint(5, WORDS, (rows, tokens), generator=torch.Generator().manual_seed(rows)), torch.ones(rows,
        tokens, dtype=torch.int64)
    if rows > 1:
        mask[1, tokens * 2 // 3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", [Sizes, Values, Forms, Regions], ids=lambda kind: kind.__name__)
def test_it_is_the_module_with_w_plus_delta(kind, tmp_path):
    torch.manual_seed(0)
    model = kind().double().eval()
    whole = torch.export.export(model, tuple(batch(2, 8).values()), dynamic_shapes=(FREE, FREE))
    jobs = []
    programs = {"exported": whole} if kind is Regions else {"exported": whole, "decomposed": whole.run_decompositions()}
    for name, program in programs.items():
        torch.export.save(program, tmp_path / f"{name}.pt2")
        jobs += [graph_oracle.Job(tmp_path / f"{name}.pt2", model, batch(*shape), ["all-linear", "embedding"],
                                  tmp_path / "jobs", tag=f"-{i}") for i, shape in enumerate(SHAPES)]
    sites = graph_oracle.run(jobs, tmp_path)
    assert all(len(found) >= 2 for found in sites)
