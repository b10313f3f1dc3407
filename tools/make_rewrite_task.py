#!/usr/bin/env python3
"""Makes a rewriting task and an untrained T5 for it: the whole sequence-to-sequence path in seconds. Nothing is
downloaded.

  make_rewrite_task.py OUT_DIR
  deeplora finetune configs/rewrite_t5.yaml          (reads runs/rewrite/, so OUT_DIR is runs/rewrite)

OUT_DIR holds t5.pt (2 + 2 layers, width 64, random weights, its own tokenizer) and train, dev and test.jsonl:
attributes of a restaurant in, a sentence out. No restaurant of dev or test is one of train.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import export_torchscript
from tiny_tokenizers import t5_tokenizer

NAMES = (("Aromi Bibimbap Clowns Cotto Eagle Fitzbillies Giraffe Loch Mill Phoenix Punter Strada Vaults Waterman "
          "Wrestlers "
         "Zizzi").split())
FOODS = "Thai Italian French Indian English Chinese Japanese fast".split()
AREAS = ["riverside", "city", "centre", "north"]
SPLITS = {"train": 400, "dev": 56, "test": 56}
SEED = 1


def rows() -> list[dict[str, str]]:
    """Every combination, in a fixed random order."""
    out = [{"source": f"name {name} food {food} area {area}", "target": f"{name} serves {food} food in the {area}."}
           for name in NAMES for food in FOODS for area in AREAS]
    random.Random(SEED).shuffle(out)
    return out


def write_model(folder: str, corpus: list[str]) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    ids = t5_tokenizer(folder, corpus)
    torch.manual_seed(SEED)
    transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=ids["size"], d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
        relative_attention_num_buckets=16, relative_attention_max_distance=32, tie_word_embeddings=False,
        pad_token_id=ids["pad"], eos_token_id=ids["eos"], decoder_start_token_id=ids["pad"])).save_pretrained(folder)


def make(out_dir: str) -> None:
    os.makedirs(out_dir, exist_ok=True)
    every, first = rows(), 0
    for split, count in SPLITS.items():
        with open(os.path.join(out_dir, f"{split}.jsonl"), "w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in every[first:first + count])
        first += count
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, [text for row in every[:SPLITS["train"]] for text in row.values()])
        export_torchscript.export(folder, os.path.join(out_dir, "t5.pt"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", metavar="OUT_DIR")
    make(parser.parse_args(arguments).out_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
