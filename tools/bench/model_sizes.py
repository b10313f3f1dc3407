#!/usr/bin/env python3
"""Fine-tuning random Llamas from a tenth of a billion to three billion parameters, beside PEFT: memory, start and speed
by size. Prints a table.

  .venv/bin/python tools/bench/model_sizes.py [--shapes 768,12 1024,32 2048,22 3072,28] [--quantize none|int8|nf4]
  [--steps 4] [--batch 4] [--threads N] [--from folder|archive] [--json FILE]

Every line is one call of tools/bench/finetune_vs_peft.py in bfloat16 with one pair; its rows have 60 to 128 tokens. The
folder of three billion parameters takes 6 GB of disk, and PEFT 9 GB of memory.
"""
from __future__ import annotations

import argparse
import json
import os
from math import prod
from pathlib import Path

from long_inputs import measure

SHAPES = ["768,12", "1024,32", "2048,22", "3072,28"]
COLUMNS = [("samples/s", "samples_per_second", 2), ("peak memory, MB", "peak_rss_mb", 0),
           ("start to first step, s", "seconds_to_first_step", 1)]


def parameters(shape: str) -> float:
    """In billions, of what random_llama.py makes of a shape."""
    from random_llama import config_of, tensors_of

    return sum(prod(size) for _, size in tensors_of(config_of(shape))) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="WIDTH,LAYERS")
    parser.add_argument("--quantize", choices=["none", "int8", "nf4"], default="none")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--from", dest="source", choices=["archive", "folder"], default="folder")
    parser.add_argument("--json", type=Path)
    o = parser.parse_args()
    kind = "" if o.quantize == "none" else f", {o.quantize} (PEFT: by bitsandbytes)"
    print(f"{o.steps} steps of {o.batch}, {o.threads} threads, bfloat16{kind}, from the {o.source}\n\n"
          f"| billion parameters | {' | '.join(f'{title} | PEFT | better' for title, _, _ in COLUMNS)} |\n"
          f"|---{'|---|---|---' * len(COLUMNS)}|", flush=True)
    found = {}
    for shape in o.shapes:
        found[shape] = measure(["--llama", shape, "--bf16", "--quantize", o.quantize, "--steps", str(o.steps),
                                "--batch", str(o.batch), "--threads", str(o.threads), "--from", o.source])
        cells = []
        for _, key, digits in COLUMNS:
            one = found[shape][key]
            cells += [f"{one['deeplora']:.{digits}f}", f"{one['peft']:.{digits}f}", f"{one['ratio']:.2f}x"]
        print(f"| {parameters(shape):.2f} | {' | '.join(cells)} |", flush=True)
        if o.json:
            o.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
