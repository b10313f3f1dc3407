"""What runs of the program and PEFT's own training end with, side by side."""
from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def logged_losses(folder: Path) -> list[float]:
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in logged if "loss" in row]


def assert_factors_of_peft(folder: Path, peft, prefix: str, tolerance: float) -> int:
    """The last factors of a run are those of a PEFT model whose modules the file names behind `prefix`, all of them;
    gives their number."""
    found = load_file(next(folder.glob("*last*.safetensors"), folder / "adapter.safetensors"))
    compared = 0
    for key, value in peft.named_parameters():
        if "lora_" not in key:
            continue
        module, _, factor = key.removeprefix("base_model.model.").removesuffix(".default.weight").rpartition(".")
        ours = found[f"adapter/{prefix}{module}.weight/{factor.removeprefix('lora_')}"]
        torch.testing.assert_close(ours, value.detach(), rtol=0, atol=tolerance)
        compared += 1
    assert compared == 2 * sum(key.endswith("/A") for key in found)
    return compared
