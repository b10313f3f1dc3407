#!/usr/bin/env python3
"""Writes small TorchScript archives as the PyTorch that runs this writes them: tests/golden/archives holds those of
several versions.

  PYTHONPATH=FOLDER_OF_AN_OLD_TORCH python tests/golden/make/old_archives.py tests/golden/archives

Each file is one classifier of 20 words saved in one way; VERSION.json beside them has ids, mask and the logits that
this version computes.
"""
from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

WORDS, WIDTH = 20, 4


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(inplace=True), nn.Linear(6, WIDTH))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.rnn(self.embed(input_ids))[0]
        x = self.norm(x + self.mix(x))
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.out((x * keep).sum(1) / keep.sum(1))


def computed(model_class) -> tuple[str, nn.Module, dict[str, torch.Tensor], str]:
    """This version, a model of it, a batch, and the content of the JSON file that says what it computes there."""
    version = torch.__version__.partition("+")[0]
    torch.manual_seed(int(version.replace(".", "")))
    model = model_class().eval()
    ids, mask = torch.randint(1, WORDS, (3, 5)), torch.ones(3, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    with torch.no_grad():
        logits = model(ids, mask)
    batch = {"input_ids": ids, "attention_mask": mask}
    return version, model, batch, json.dumps({key: value.tolist() for key,
                                              value in {**batch, "logits": logits}.items()}) + "\n"


def main() -> int:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    version, model, batch, expected = computed(Classifier)
    scripted = torch.jit.script(model)
    quantised = torch.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    modules = {"scripted": scripted, "traced": torch.jit.trace(model, tuple(batch.values()), check_trace=False),
               "frozen": torch.jit.freeze(scripted),
               "quantised": torch.jit.script(quantised)}
    for how, module in modules.items():
        torch.jit.save(module, str(folder / f"{version}-{how}.pt"))
    (folder / f"{version}.json").write_text(expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
