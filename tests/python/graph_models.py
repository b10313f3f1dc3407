"""Models that the program has never seen, written in plain PyTorch: what the graph backend is tried on beside
transformers' families."""
from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

WORDS = 60


class LoopedTransformer(nn.Module):
    """Plain PyTorch with control flow that only scripting keeps: a loop over the layers and a branch on the length."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.short = nn.Linear(16, 16)
        self.layers = nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(16, 16), "v_proj": nn.Linear(16, 16),
                                                    "fc1": nn.Linear(16, 32),
                                                    "fc2": nn.Linear(32, 16)}) for _ in range(2)])
        self.classifier = nn.Linear(16, 2)
        self.drop = nn.Dropout(0.1)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        if input_ids.size(1) < 4:
            x = x + self.short(x)
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        for repeat in range(2):
            for layer in self.layers:
                score = torch.matmul(layer["q_proj"](x), x.transpose(1, 2)).masked_fill(attention_mask.unsqueeze(1)
                    == 0, -1e9)
                x = x + self.drop(torch.matmul(torch.softmax(score, -1), layer["v_proj"](x)))
                x = x + layer["fc2"](torch.relu(layer["fc1"](x)))
                x = x / 2.0
        return self.classifier((x * keep).sum(1) / keep.sum(1))


class TorchEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, input_ids, attention_mask):
        return self.encoder(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids):
        return self.classifier(self.lstm(self.embed(input_ids))[0][:, -1])


class SharedBlocks(nn.Module):
    """Two modules of one class with a table tied to the output layer, called in a loop and a branch; a dict of tuples
    comes out."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(16, 24), nn.Linear(24, 16)

        def forward(self, x):
            return x + self.fc2(torch.tanh(self.fc1(x)))

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.first, self.second = SharedBlocks.Block(), SharedBlocks.Block()
        self.lm_head = nn.Linear(16, WORDS, bias=False)
        self.lm_head.weight = self.embed.weight

    def forward(self, tokens, keep):
        x = self.embed(tokens)
        for step in range(3):
            if step == 1:
                x = self.second(x)
            else:
                x = self.first(x)
        hidden = x * keep.unsqueeze(-1).to(x.dtype)
        return {"parts": (self.lm_head(x), hidden)}


def sample(length: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, WORDS, (2, length), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


def scripted(model_class):
    return lambda dtype: torch.jit.script(model_class().to(dtype).eval())


def traced(model_class):
    return lambda dtype: torch.jit.trace(model_class().to(dtype).eval(), sample(9), check_trace=False)


# name -> archive's module in a dtype. torch.nn.MultiheadAttention bakes the traced length in: 9 is what the oracle asks
# for.
MODELS = {"scripted-transformer": scripted(LoopedTransformer), "torch-encoder": traced(TorchEncoder),
          "lstm": scripted(Recurrent),
          "shared-blocks": scripted(SharedBlocks)}
INPUTS = {"shared-blocks": {"input_ids": "tokens", "attention_mask": "keep"}}  # model.inputs, where names are not ours


def save(name: str, path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    torch.jit.save(MODELS[name](dtype), str(path))
