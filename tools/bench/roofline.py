#!/usr/bin/env python3
"""Seconds that the frozen matrix products of one training step take alone, at the speed this machine gives them: what
no way of training by back-propagation through the model can go below.

  .venv/bin/python tools/bench/roofline.py HF_FOLDER TOKENS [--threads N] [--bf16] [--causal] [--first-tokens B]

TOKENS is the number of real tokens of a step (padding left out). For every linear layer x W^T is timed, and for all but
the first layer's query, key and value also the gradient g W of its input; each layer has weights of its own, so caches
hold what they hold in training. Where only the first tokens of B texts are read behind the last layer (--first-tokens),
that layer's products but keys and values are of B rows. DeBERTa's products of positions, which are few rows, are left
out. Prints one JSON object.
"""
from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path


def layer_shapes(config: dict) -> list[tuple[int, int]]:
    """[out, in] of one layer's products, those of one input as one: query, key and value first."""
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    size = config.get("head_dim") or width // heads
    gated = config["model_type"] in ("llama", "qwen2", "mistral", "modernbert")
    return [((heads + 2 * config.get("num_key_value_heads", heads)) * size, width), (width, heads * size),
            (inner * (1 + gated), width), (width, inner)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("tokens", type=int)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--causal", action="store_true", help="with the product that gives the logits of every token")
    parser.add_argument("--first-tokens", type=int, metavar="B", default=0)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    config = json.loads((Path(options.folder) / "config.json").read_text(encoding="utf-8"))
    layer = layer_shapes(config)
    products = [(shape, options.tokens) for shape in layer * config["num_hidden_layers"]]
    if options.first_tokens:
        width = config["hidden_size"]
        products[-len(layer):] = [((2 * width, width), options.tokens)] + [(shape, options.first_tokens) for shape
            in [(width, width), *layer[1:]]]
    products += [((config["vocab_size"], config["hidden_size"]), options.tokens)] * options.causal
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    make = lambda *shape: torch.randn(*shape).to(dtype)  # noqa: E731
    weights = [(make(*shape), rows) for shape, rows in products]
    inputs = {(rows, n): make(rows, n) for shape, rows in products for n in shape}

    def step() -> None:
        for weight, rows in weights:
            torch.mm(inputs[rows, weight.shape[1]], weight.t())
        for weight, rows in reversed(weights[1:]):
            torch.mm(inputs[rows, weight.shape[0]], weight)

    times = []
    for i in range(options.repeats + 3):
        at = time.perf_counter()
        step()
        if i >= 3:
            times.append(time.perf_counter() - at)
    seconds = statistics.median(times)
    operations = 2 * (sum(w.numel() * rows for w, rows in weights) * 2 - weights[0][0].numel() * weights[0][1])
    print(json.dumps({"seconds": seconds, "gflops": operations / seconds / 1e9}))


if __name__ == "__main__":
    main()
