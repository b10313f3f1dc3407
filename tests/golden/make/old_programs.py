#!/usr/bin/env python3
"""Writes small programs of torch.export as the PyTorch that runs this writes them: tests/golden/archives holds those of
several versions.

  PYTHONPATH=FOLDER_OF_AN_OLD_TORCH python tests/golden/make/old_programs.py tests/golden/archives

Each file is one model of 20 words: a classifier with a recurrence-free middle, tied weights and a buffer, as it was
exported and decomposed. VERSION-exported.json beside them has ids, mask and the logits that this version computes.
"""
from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from old_archives import WORDS, computed

WIDTH = 8


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.mix = nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Dropout(0.1), nn.Linear(12, WIDTH))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)
        self.register_buffer("scale", torch.tensor([0.5]))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        query, key, value = (f(x).unsqueeze(1) for f in (self.query, self.key, self.value))
        bias = (attention_mask[:, None, None, :] == 0).to(x.dtype) * -1e4
        x = x + F.scaled_dot_product_attention(query, key, value, attn_mask=bias).squeeze(1)
        x = self.norm(x + self.mix(x)) + F.linear(x, self.mix[0].weight.t() @ self.mix[0].weight) * self.scale
        return self.out((x * keep).sum(1) / keep.sum(1))


def main() -> int:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    version, model, batch, expected = computed(Classifier)
    rows, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=64)
    program = torch.export.export(model, (), batch, dynamic_shapes={name: {0: rows, 1: length} for name in batch})
    torch.export.save(program, str(folder / f"{version}-exported.pt2"))
    torch.export.save(program.run_decompositions(), str(folder / f"{version}-decomposed.pt2"))
    (folder / f"{version}-programs.json").write_text(expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
