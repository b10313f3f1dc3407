"""Modules drawn at random: operators x in place or not x dtype x way of saving. Each is adapted and merged as any
archive would be; outputs, gradients of all factors and the merged file are those of the module in PyTorch with W +
delta. DEEPLORA_DRAWS says how many are drawn."""
from __future__ import annotations

import os
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import graph_oracle
from graph_models import WORDS

pytestmark = pytest.mark.filterwarnings("ignore")
DRAWS, A_TIME, WIDTH = int(os.environ.get("DEEPLORA_DRAWS", 24)), 12, 12


class Dense(nn.Module):
    def __init__(self, rng):
        super().__init__()
        inner, inplace = rng.choice([8, 12, 17]), rng.random() < 0.6
        self.up, self.down = nn.Linear(WIDTH, inner, bias=rng.random() < 0.7), nn.Linear(inner, WIDTH)
        self.act = rng.choice([nn.ReLU(inplace), nn.SiLU(inplace), nn.LeakyReLU(0.2, inplace), nn.GELU(), nn.Tanh()])

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class Residual(nn.Module):
    """x + f(x), in place or not, of one block or of the same block twice."""

    def __init__(self, rng):
        super().__init__()
        self.inner, self.norm = Dense(rng), nn.LayerNorm(WIDTH)
        self.inplace, self.twice = rng.random() < 0.5, rng.random() < 0.3

    def forward(self, x):
        y = self.inner(self.norm(x))
        if self.twice:
            y = self.inner(y)
        if self.inplace:
            y += x
            return y
        return x + y


class InPlace(nn.Module):
    """A linear layer whose output is written into."""

    def __init__(self, rng):
        super().__init__()
        self.linear, self.kind = nn.Linear(WIDTH, WIDTH), rng.randrange(5)

    def forward(self, x):
        y = self.linear(x)
        if self.kind == 0:
            y[:, :, 0] = 0.5
        elif self.kind == 1:
            y.mul_(0.5).add_(x)
        elif self.kind == 2:
            y.masked_fill_(x > 1.0, 0.25)
        elif self.kind == 3:
            y[:, :, 1:3] += x[:, :, 2:4]
        else:
            y.sigmoid_()
        return y


class Recurrent(nn.Module):
    def __init__(self, rng):
        super().__init__()
        both = rng.random() < 0.5
        kind = rng.choice([nn.LSTM, nn.GRU, nn.RNN])
        self.rnn = kind(WIDTH, WIDTH // (1 + both), rng.choice([1, 2]), batch_first=True, bidirectional=both)

    def forward(self, x):
        return self.rnn(x)[0]


class Convolution(nn.Module):
    def __init__(self, rng):
        super().__init__()
        size = rng.choice([1, 3, 5])
        self.conv = nn.Conv1d(WIDTH, WIDTH, size, padding=size // 2, groups=rng.choice([1, 1, 3]))

    def forward(self, x):
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class Product(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.weight, self.cube, self.kind = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.3), nn.Parameter(torch.randn(2,
            WIDTH, WIDTH) * 0.3), rng.randrange(6)

    def forward(self, x):
        if self.kind == 0:
            return torch.einsum("btd,kde->bte", x, self.cube) + x @ self.weight
        if self.kind == 1:
            return F.linear(x, self.weight * 2.0) + (x * 0.5) @ self.cube[0]
        if self.kind == 2:
            return torch.baddbmm(x, x, self.cube[1].unsqueeze(0).expand(x.size(0), -1, -1)) + F.linear(x, self.weight)
        if self.kind == 3:
            return F.linear(x, torch.cat([self.weight[:4], self.cube[0, 4:]]))
        if self.kind == 4:
            return F.linear(F.linear(x, self.weight), self.weight.t()) + F.linear(x, self.cube.sum(0))
        return F.bilinear(x, torch.tanh(x), torch.stack([self.cube[0], self.weight] * 6)) + x


class Attention(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.first = rng.random() < 0.5
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=self.first)

    def forward(self, x):
        y = x if self.first else x.transpose(0, 1)
        y = self.attention(y, y, y, need_weights=False)[0]
        return x + (y if self.first else y.transpose(0, 1))


class Layer(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 4, 16, batch_first=True, norm_first=rng.random() < 0.5,
                                                activation=rng.choice(["relu", "gelu"]))

    def forward(self, x):
        return self.layer(x)


class Normed(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.linear = parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        return torch.relu_(self.linear(x))


class Shapes(nn.Module):
    """A linear layer whose output is cut, joined and turned."""

    def __init__(self, rng):
        super().__init__()
        self.linear, self.kind = nn.Linear(WIDTH, 2 * WIDTH), rng.randrange(4)

    def forward(self, x):
        y = self.linear(x)
        if self.kind == 0:
            return F.glu(y, -1)
        if self.kind == 1:
            a, b = y.chunk(2, -1)
            return a * torch.sigmoid(b)
        if self.kind == 2:
            a, b = y.split(x.size(-1), -1)
            return torch.softmax(a @ b.transpose(1, 2), -1) @ a
        return y.unflatten(-1, [2, x.size(-1)]).amax(2)


BLOCKS = [Dense, Residual, InPlace, Recurrent, Convolution, Product, Attention, Layer, Normed, Shapes]


class Drawn(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        kinds = [rng.choice(BLOCKS) for _ in range(rng.randint(1, 4))]
        self.blocks = nn.Sequential(*[kind(rng) for kind in kinds])
        self.last = nn.Linear(WIDTH, 3)
        self.described = ", ".join(kind.__name__ for kind in kinds)

    def forward(self, input_ids, attention_mask):
        keep = attention_mask.unsqueeze(-1).to(torch.float64).to(self.last.weight.dtype)
        x = self.blocks(self.embed(input_ids))
        return self.last((x * keep).sum(1) / keep.sum(1))


def ways(model: Drawn) -> list[str]:
    """Freezing computes W * 2 and norms of weights: those constants are no parameters that the module could be asked
    about."""
    computed = "Normed" in model.described or "Product" in model.described
    return ["trace", "no_grad"] + ["script"] * ("Normed" not in model.described) + ["freeze",
        "script+freeze"] * (not computed)


def save(model: nn.Module, how: str, path, values) -> None:
    with torch.set_grad_enabled(how != "no_grad"):
        module = torch.jit.script(model) if how.startswith("script") else torch.jit.trace(model, values,
            check_trace=False)
    torch.jit.save(torch.jit.freeze(module) if how.endswith("freeze") else module, str(path))


def drawn(seed: int, folder) -> graph_oracle.Job:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    model = Drawn(rng).to(rng.choice([torch.float32, torch.float64])).eval()
    ids = torch.randint(1, WORDS, (3, 7), generator=torch.Generator().manual_seed(seed))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    how = rng.choice(ways(model))
    path = folder / f"{seed}-{how}.pt"
    save(model, how, path, tuple(batch.values()))
    targets = rng.choice([["all-weights"], ["all-weights", "head"]])
    return graph_oracle.Job(path, model, batch, targets, folder, rng.choice(["lora", "deep-lora"]), spread=0.5)


@pytest.mark.parametrize("start", range(0, DRAWS, A_TIME))
def test_drawn_modules_are_adapted_and_merged_as_pytorch_says(start, tmp_path):
    jobs = [drawn(seed, tmp_path) for seed in range(start, min(DRAWS, start + A_TIME))]
    sites = graph_oracle.run(jobs, tmp_path)
    assert all(found for found in sites)
