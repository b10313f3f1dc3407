#!/usr/bin/env python3
"""Labels texts with a classifier that `deeplora export --to torchscript` wrote; needs torch and tokenizers, nothing
else.

  use_model.py merged.pt "i love it" "it broke after a week"
"""
import json
import sys

import torch
from tokenizers import Tokenizer


def main(file: str, texts: list) -> None:
    extra = {"deeplora.json": "", "tokenizer.json": "", "config.json": ""}
    model = torch.jit.load(file, map_location="cpu", _extra_files=extra).eval()
    about, config = json.loads(extra["deeplora.json"]), json.loads(extra["config.json"])
    labels = about["task_state"]["labels"]

    tokenizer = Tokenizer.from_str(bytes(extra["tokenizer.json"]).decode("utf-8"))
    tokenizer.enable_truncation(about["data"]["max_length"])
    tokenizer.enable_padding(pad_id=config.get("pad_token_id") or 0)
    rows = tokenizer.encode_batch(texts)
    inputs = {
        "input_ids": torch.tensor([row.ids for row in rows]),  # int64 [B, T]
        "attention_mask": torch.tensor([row.attention_mask for row in rows]),
        "token_type_ids": torch.tensor([row.type_ids for row in rows]),
    }
    names = [argument.name for argument in model.forward.schema.arguments]
    with torch.no_grad():
        logits = model(**{name: value for name, value in inputs.items() if name in names})  # [B, C]
    for row in torch.softmax(logits.double(), 1):
        print("\t".join([labels[int(row.argmax())]] + [f"{name} {p:.4f}" for name, p in zip(labels, row.tolist())]))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
