#!/usr/bin/env python3
"""The models that tools/bench/gpu/run takes along: tiny ones as TorchScript, and MiniLM's tokenizer.

  .venv/bin/python tools/bench/gpu/gather.py BUNDLE
"""
from __future__ import annotations

import shutil
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOOLS), str(TOOLS / "bench")]
TINY = {"bert": "encoder", "gpt2": "causal-lm", "llama": "causal-lm"}
OF_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def main(bundle: str) -> int:
    import export_torchscript
    import make_tiny_models
    from finetune_vs_peft import minilm

    place = Path(bundle)
    for name, task in TINY.items():
        make_tiny_models.make(name, str(place / "tiny" / name))
        export_torchscript.export(str(place / "tiny" / name), str(place / "tiny" / f"{name}.pt"), task, None)
    (place / "tokenizer").mkdir(exist_ok=True)
    for file in OF_TOKENIZER:
        if (Path(minilm()) / file).exists():
            shutil.copy(Path(minilm()) / file, place / "tokenizer" / file)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
