"""Models whose weights are read by every kind of operator, in plain PyTorch: ids and mask in, two logits out."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from graph_models import WORDS

WIDTH = 12


class Classifier(nn.Module):
    """A table, something in the middle [B, T, D] -> [B, T, D'], the mean over the texts, a linear layer."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.out = nn.Linear(width, 2)

    def pooled(self, x, attention_mask):
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.out((x * keep).sum(1) / keep.sum(1))


class Recurrent(Classifier):
    def __init__(self, kind: str, layers: int = 1, bidirectional: bool = False):
        super().__init__(10 * (1 + bidirectional))
        self.rnn = getattr(nn, kind)(WIDTH, 10, layers, bidirectional=bidirectional, batch_first=True)

    def forward(self, input_ids, attention_mask):
        return self.pooled(self.rnn(self.embed(input_ids))[0], attention_mask)


class Packed(Classifier):
    def __init__(self):
        super().__init__(20)
        self.rnn = nn.LSTM(WIDTH, 10, bidirectional=True, batch_first=True)

    def forward(self, input_ids, attention_mask):
        packed = pack_padded_sequence(self.embed(input_ids), attention_mask.sum(1).cpu(), batch_first=True,
                                      enforce_sorted=False)
        x, lengths = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=input_ids.size(1))
        return self.pooled(x, attention_mask)


class Cell(Classifier):
    def __init__(self):
        super().__init__(10)
        self.cell = nn.GRUCell(WIDTH, 10)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        h = torch.zeros(x.size(0), 10, dtype=x.dtype)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


class Convolution1d(Classifier):
    def __init__(self, groups: int = 1, transposed: bool = False):
        super().__init__()
        self.conv = (nn.ConvTranspose1d if transposed else nn.Conv1d)(WIDTH, WIDTH, 3, padding=1, groups=groups)

    def forward(self, input_ids, attention_mask):
        return self.pooled(torch.relu(self.conv(self.embed(input_ids).transpose(1, 2))).transpose(1, 2), attention_mask)


class Convolution2d(Classifier):
    def __init__(self):
        super().__init__(8)
        self.conv = nn.Conv2d(1, 8, (3, WIDTH), padding=(1, 0))

    def forward(self, input_ids, attention_mask):
        return self.pooled(torch.tanh(self.conv(self.embed(input_ids).unsqueeze(1))).squeeze(-1).transpose(1, 2),
                           attention_mask)


class Bilinear(Classifier):
    def __init__(self):
        super().__init__(7)
        self.bilinear = nn.Bilinear(WIDTH, WIDTH, 7)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        return self.pooled(self.bilinear(x, torch.tanh(x)), attention_mask)


class Products(Classifier):
    """Products that are no linear layer; `both` is read in two different ways."""

    def __init__(self):
        super().__init__()
        self.mixed = nn.Parameter(torch.randn(WIDTH, 5) * 0.3)
        self.back = nn.Parameter(torch.randn(1, 5, WIDTH) * 0.3)
        self.both = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.3)
        self.scaled = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.3)
        self.experts = nn.Parameter(torch.randn(3, WIDTH, WIDTH) * 0.3)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        h = torch.einsum("btd,de->bte", x, self.mixed)
        x = torch.baddbmm(x, h, self.back.expand(x.size(0), -1, -1))
        x = x + torch.tanh(F.linear(x, self.both)) + torch.matmul(x, self.both)
        x = x + F.linear(x, self.scaled * 2.0)
        x = x + torch.einsum("btd,kde->bte", torch.tanh(x), self.experts)
        return self.pooled(x, attention_mask)


class Positions(Classifier):
    """Rows of a parameter added, a table under its largest norm, a similarity to unit vectors."""

    def __init__(self):
        super().__init__(6)
        self.positions = nn.Parameter(torch.randn(1, 16, WIDTH) * 0.3)
        self.centres = nn.Parameter(torch.randn(6, WIDTH))

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) + self.positions[:, :input_ids.size(1)]
        return self.pooled(F.linear(F.normalize(x, dim=-1), F.normalize(self.centres, dim=-1)), attention_mask)


class Normed(Classifier):
    def __init__(self, kind: str):
        super().__init__()
        self.mid = nn.Linear(WIDTH, WIDTH)
        (nn.utils.weight_norm if kind == "weight_norm_hook" else getattr(parametrizations, kind))(self.mid)

    def forward(self, input_ids, attention_mask):
        return self.pooled(torch.relu(self.mid(self.embed(input_ids))), attention_mask)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.hidden, self.out = nn.EmbeddingBag(WORDS, WIDTH, mode="sum"), nn.Linear(WIDTH, 8), nn.Linear(8,
            2)

    def forward(self, input_ids, attention_mask):
        return self.out(torch.relu(self.hidden(self.bag(input_ids))))


class Folded(Classifier):
    """What freezing folds: a batch norm behind a convolution, and linear layers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 9), nn.ReLU(inplace=True), nn.Linear(9, WIDTH))

    def forward(self, input_ids, attention_mask):
        return self.pooled(self.net(self.embed(input_ids)), attention_mask)


# name -> (maker, what reads the weights beside embed and out, ways of saving)
TRACED, SCRIPTED = "trace", "script"
MODELS = {
    "lstm": (lambda: Recurrent("LSTM"), {"lstm"}, [TRACED, SCRIPTED]),
    "gru": (lambda: Recurrent("GRU", 2, True), {"gru"}, [TRACED, SCRIPTED]),
    "rnn": (lambda: Recurrent("RNN"), {"rnn_tanh"}, [TRACED, SCRIPTED]),
    "packed": (Packed, {"lstm"}, [TRACED, SCRIPTED]),
    "cell": (Cell, {"gru_cell"}, [SCRIPTED]),
    "conv1d": (Convolution1d, {"conv1d"}, [TRACED, SCRIPTED]),
    "grouped": (lambda: Convolution1d(3), {"conv1d"}, [SCRIPTED]),
    "transposed": (lambda: Convolution1d(1, True), {"conv_transpose1d"}, [SCRIPTED]),
    "conv2d": (Convolution2d, {"conv2d"}, [TRACED, SCRIPTED]),
    "bilinear": (Bilinear, {"bilinear"}, [TRACED, SCRIPTED]),
    "products": (Products, {"einsum", "expand", "linear, matmul", "mul"}, [TRACED, SCRIPTED]),
    "positions": (Positions, {"slice", "linalg_vector_norm, div"}, [TRACED]),
    "weight_norm": (lambda: Normed("weight_norm"), {"_weight_norm"}, [TRACED]),
    "weight_norm_hook": (lambda: Normed("weight_norm_hook"), {"_weight_norm"}, [TRACED]),
    "bag": (Bag, {"embedding_bag"}, [TRACED, SCRIPTED]),
    "folded": (Folded, {"linear"}, [TRACED, SCRIPTED]),
}


def batch(masked: bool = True) -> dict[str, torch.Tensor]:
    ids, mask = torch.randint(1, WORDS, (3, 7), generator=torch.Generator().manual_seed(2)), torch.ones(3, 7,
        dtype=torch.int64)
    if masked:
        mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def make(name: str, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name][0]().to(dtype).eval()


def saved_as(model: nn.Module, how: str, path, values) -> None:
    """"trace", "script", or one of them with "+freeze" or "+optimize" behind it, or "closure": traced as a function."""
    way, _, then = how.partition("+")
    if way == "closure":
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        module = torch.jit.trace(lambda ids, mask: model(ids, mask), values, check_trace=False)
        renamed = torch.jit.trace(Renamed(module), values, check_trace=False)
        module = torch.jit.freeze(renamed.eval()) if then else renamed
    else:
        module = torch.jit.script(model) if way == SCRIPTED else torch.jit.trace(model, values, check_trace=False)
        if then == "freeze":
            module = torch.jit.freeze(module)
        elif then == "optimize":
            module = torch.jit.optimize_for_inference(module)
    torch.jit.save(module, str(path))
    for parameter in model.parameters():
        parameter.requires_grad_(True)


class Renamed(nn.Module):
    """A traced function with the argument names of a model."""

    def __init__(self, function):
        super().__init__()
        self.function = [function]

    def forward(self, input_ids, attention_mask):
        return self.function[0](input_ids, attention_mask)
