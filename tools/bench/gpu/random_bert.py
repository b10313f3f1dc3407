"""Hugging Face folders of BERTs of any size with random weights in float32, without transformers."""
from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_llama import DRAWN, in_bytes, write_shard  # noqa: E402


def tensors_of(width: int, layers: int, words: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of BertModel without a pooler."""
    out = [("embeddings.word_embeddings.weight", (words, width)),
           ("embeddings.position_embeddings.weight", (512, width)),
           ("embeddings.token_type_embeddings.weight", (2, width))]
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        at = f"encoder.layer.{i}."
        for name, rows, columns in (("attention.self.query", width, width), ("attention.self.key", width, width),
                                    ("attention.self.value", width, width), ("attention.output.dense", width, width),
                                    ("intermediate.dense", 4 * width, width), ("output.dense", width, 4 * width)):
            out += [(at + name + ".weight", (rows, columns)), (at + name + ".bias", (rows,))]
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
    return out + [(f"{name}.{part}", (width,)) for name in norms for part in ("weight", "bias")]


def make(folder: Path, width: int, layers: int, heads: int, tokenizer: Path, seed: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder / file.name)
    words = len(json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": 4 * width, "vocab_size": words, "hidden_act": "gelu",
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0}))
    rng = np.random.default_rng(seed)
    drawn = memoryview(in_bytes(rng.standard_normal(DRAWN, np.float32) * 0.02, "float32"))
    write_shard(folder / "model.safetensors", tensors_of(width, layers, words), "float32", drawn, rng)
    return folder
