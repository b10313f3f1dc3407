#!/usr/bin/env python3
"""Writes a Hugging Face folder of a Llama of any size with random weights, shard by shard: no tensor is in memory.

  .venv/bin/python tools/bench/random_llama.py OUT WIDTH,LAYERS [--heads N] [--kv-heads N] [--vocab 32000] [--dtype
  bfloat16|float16|float32]
                                               [--shard-mb 2000] [--tokenizer FOLDER] [--seed 1]

2048,22 is TinyLlama's shape (1.1 billion parameters), 4096,32 with --heads 32 --kv-heads 32 that of Llama 2 7B.
Weights are normal with deviation 0.02, drawn once: sixteen million of them, of which every matrix takes stretches from
random starts. Norms are ones. --tokenizer names a folder whose tokenizer files are copied along.
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

DRAWN = 1 << 24
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def config_of(shape: str, heads: int | None = None, kv_heads: int | None = None, vocab: int = 32000,
              dtype: str = "bfloat16") -> dict:
    """config.json of a shape WIDTH,LAYERS."""
    width, layers = map(int, shape.split(","))
    heads = heads or width // 64
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
            "num_hidden_layers": layers, "intermediate_size": (8 * width // 3 + 255) // 256 * 256,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads or max(1, heads // 8), "vocab_size": vocab,
            "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "torch_dtype": dtype,
            "bos_token_id": 1, "eos_token_id": 2}


def tensors_of(config: dict) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the layers."""
    width, inner, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    narrow = width // config["num_attention_heads"] * config["num_key_value_heads"]
    out = [("model.embed_tokens.weight", (words, width))]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        out += [(layer + "input_layernorm.weight", (width,)), (layer + "post_attention_layernorm.weight", (width,)),
                (layer + "self_attn.q_proj.weight", (width, width)), (layer + "self_attn.k_proj.weight",
                    (narrow, width)),
                (layer + "self_attn.v_proj.weight", (narrow, width)), (layer + "self_attn.o_proj.weight",
                    (width, width)),
                (layer + "mlp.gate_proj.weight", (inner, width)), (layer + "mlp.up_proj.weight", (inner, width)),
                (layer + "mlp.down_proj.weight", (width, inner))]
    return out + [("model.norm.weight", (width,)), ("lm_head.weight", (words, width))]


def in_bytes(values: np.ndarray, dtype: str) -> bytes:
    if dtype != "bfloat16":
        return values.astype(dtype).tobytes()
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()  # to nearest, ties to even


def write_shard(path: Path, tensors, dtype: str, drawn: memoryview, rng) -> None:
    """Weights are stretches of the bytes `drawn`, no longer than half of them."""
    kind, header, offset = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[dtype], {}, 0
    for name, shape in tensors:
        end = offset + BYTES[dtype] * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            if "norm" in name.lower():
                out.write(in_bytes(np.full(shape, 0 if name.endswith("bias") else 1, np.float32), dtype))
                continue
            left = BYTES[dtype] * int(np.prod(shape))
            while left > 0:
                count = min(left, len(drawn) // 2)
                first = BYTES[dtype] * int(rng.integers(0, DRAWN // 2))
                out.write(drawn[first:first + count])
                left -= count


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("shape", metavar="WIDTH,LAYERS")
    parser.add_argument("--heads", type=int, help="default: WIDTH / 64")
    parser.add_argument("--kv-heads", type=int, help="default: an eighth of the heads")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--dtype", choices=list(BYTES), default="bfloat16")
    parser.add_argument("--shard-mb", type=int, default=2000)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args(arguments)
    config = config_of(o.shape, o.heads, o.kv_heads, o.vocab, o.dtype)
    o.out.mkdir(parents=True, exist_ok=True)
    (o.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shards, room = [[]], 0
    for name, shape in tensors_of(config):
        size = BYTES[o.dtype] * int(np.prod(shape))
        if shards[-1] and room + size > o.shard_mb << 20:
            shards.append([])
            room = 0
        shards[-1].append((name, shape))
        room += size
    rng, places, total = np.random.default_rng(o.seed), {}, 0
    drawn = memoryview(in_bytes(rng.standard_normal(DRAWN, np.float32) * 0.02, o.dtype))
    for i, shard in enumerate(shards):
        file = "model.safetensors" if len(shards) == 1 else f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(o.out / file, shard, o.dtype, drawn, rng)
        places |= {name: file for name, _ in shard}
        total += sum(int(np.prod(shape)) for _, shape in shard)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total * BYTES[o.dtype]}, "weight_map": places}
        (o.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    for file in sorted(o.tokenizer.glob("*")) if o.tokenizer else []:
        if file.name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(file, o.out / file.name)
    print(f"{o.out}: {total:,} parameters in {len(shards)} file(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
