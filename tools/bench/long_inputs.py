#!/usr/bin/env python3
"""Training on long rows, beside PEFT: memory and speed by length, with and without gradient checkpointing. Prints a
table.

  .venv/bin/python tools/bench/long_inputs.py (--causal FOLDER | --llama WIDTH,LAYERS) [--lengths 512,1024,2048]
  [--batch 1,4] [--steps 3] [--bf16]
                                 [--threads N] [--from folder|archive] [--quantize int8|nf4]

Every cell is one call of tools/bench/finetune_vs_peft.py with one pair. The last column is what each further token of a
batch takes of deeplora's memory, from the length before: where it does not grow, memory is linear in length.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def measure(arguments: list[str]) -> dict:
    done = subprocess.run([sys.executable, "tools/bench/finetune_vs_peft.py", *arguments, "--pairs", "1", "--json"],
                          cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return json.loads(done.stdout[done.stdout.index("\n{"):])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--causal", metavar="FOLDER")
    model.add_argument("--llama", metavar="WIDTH,LAYERS")
    parser.add_argument("--lengths", default="512,1024,2048")
    parser.add_argument("--batch", default="1,4")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--from", dest="source", choices=["archive", "folder"], default="folder")
    parser.add_argument("--quantize", choices=["none", "int8", "nf4"], default="none")
    o = parser.parse_args()
    which = ["--causal", o.causal] if o.causal else ["--llama", o.llama]
    common = [*which, "--steps", str(o.steps), "--threads", str(o.threads), "--from", o.source]
    common += ["--quantize", o.quantize] + ["--bf16"] * o.bf16
    print(f"{o.steps} steps, {o.threads} threads, {'bfloat16' if o.bf16 else 'float32'}"
          f"{'' if o.quantize == 'none' else f', {o.quantize}'}\n\n"
          "| batch | checkpointing | tokens a row | deeplora, samples/s | PEFT | ratio | deeplora, MB | PEFT | ratio | "
          "KB a further token |\n"
          "|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for batch in map(int, o.batch.split(",")):
        for checkpointing in (False, True):
            before = None
            for tokens in map(int, o.lengths.split(",")):
                found = measure([*common, "--batch", str(batch), "--tokens", str(tokens), "--rows",
                                 str(batch * o.steps)] + ["--checkpointing"] * checkpointing)
                speed, memory = found["samples_per_second"], found["peak_rss_mb"]
                more = ("" if before is None
                        else f"{1024 * (memory['deeplora'] - before[1]) / (batch * (tokens - before[0])):.0f}")
                before = (tokens, memory["deeplora"])
                print(f"| {batch} | {'yes' if checkpointing else 'no'} | {tokens} | {speed['deeplora']:.3f} | "
                      f"{speed['peft']:.3f} | {speed['ratio']:.2f} | "
                      f"{memory['deeplora']:.0f} | {memory['peft']:.0f} | {memory['ratio']:.2f} | {more} |", flush=True)


if __name__ == "__main__":
    main()
