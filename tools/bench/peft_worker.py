#!/usr/bin/env python3
"""One PEFT + transformers fine-tuning run, measured as deeplora measures its own: the peer of
tools/bench/finetune_vs_peft.py.

A sentence encoder with a linear head on the mean of its tokens or on the first, or a causal language model; LoRA from a
PEFT folder, AdamW, linear decay, gradient clipping at 1, dynamic padding, rows in the order of the file, sdpa
attention. Prints one JSON object.
"""
from __future__ import annotations

import argparse
import inspect
import json
import resource
import time
import warnings
from pathlib import Path

START = time.time()
warnings.filterwarnings("ignore")


def process_start() -> float:
    """Seconds since the epoch at which the system started this process, so that importing torch counts too."""
    with open("/proc/self/stat", encoding="utf-8") as stat:
        ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime", encoding="utf-8") as uptime:
        up = float(uptime.read().split()[0])
    import os

    return time.time() - (up - ticks / os.sysconf("SC_CLK_TCK"))


def batches(count: int, size: int, steps: int):
    """Rows in the order of the file, over and over; the smaller rest of each pass is a batch too."""
    done = 0
    while True:
        for begin in range(0, count, size):
            if done == steps:
                return
            done += 1
            yield list(range(begin, min(begin + size, count)))


def load_encoder(folder: str):
    """Without a pooler where there is one to leave out, with sdpa attention where the architecture has it (DeBERTa has
    its own)."""
    from transformers import AutoConfig, AutoModel

    kind = AutoConfig.from_pretrained(folder).model_type
    more = {} if kind in ("modernbert", "deberta-v2", "distilbert", "electra") else {"add_pooling_layer": False}
    return AutoModel.from_pretrained(folder, attn_implementation="eager" if kind == "deberta-v2" else "sdpa", **more)


class Encoder:
    """Sentence encoder with a linear head on standardised labels."""

    def __init__(self, options, rows):
        import torch
        from peft import PeftModel
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(options.folder)
        pairs = [row.get("text_pair") for row in rows]
        self.encoded = self.tokenizer([row["text"] for row in rows], pairs if pairs[0] is not None else None,
                                      truncation=True,
                                      max_length=options.max_length)
        labels = torch.tensor([float(row["label"]) for row in rows])
        mean, spread = labels.mean(), labels.std(unbiased=False)
        self.labels = (labels - mean) / spread
        base = load_encoder(options.folder)
        self.names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name
                      in inspect.signature(base.forward).parameters]
        self.model = PeftModel.from_pretrained(base, options.start, is_trainable=True)
        self.head = torch.nn.Linear(base.config.hidden_size, 1)
        saved = load_file(Path(options.start) / "head.safetensors")  # in the labels' own units
        self.head.load_state_dict({"weight": saved["weight"] / spread, "bias": (saved["bias"] - mean) / spread})
        self.dropout = torch.nn.Dropout(0.1)
        self.pooling = options.pooling
        self.labels = self.labels.to(options.device)

    def modules(self):
        return [self.model, self.head, self.dropout]

    def groups(self):
        return [{"params": [p for p in self.model.parameters() if p.requires_grad]},
                {"params": list(self.head.parameters()), "lr": 5e-3}]

    def inputs(self, rows):
        return self.tokenizer.pad({k: [self.encoded[k][i] for i in rows] for k in self.names},
                                  return_tensors="pt")

    def loss(self, inputs, rows):
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        predicted = self.head(self.dropout(pooled)).squeeze(-1)
        return (predicted.float() - self.labels[rows]).square().mean()


def quantization(options) -> dict:
    """How bitsandbytes keeps the linear layers, as an argument of from_pretrained."""
    if options.quantize == "none":
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    if options.quantize == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": "cpu"}
    return {"device_map": "cpu", "quantization_config": BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if options.bf16 else torch.float32)}


class Causal:
    """Causal language model on rows of token ids, every token learnt."""

    def __init__(self, options, rows):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        self.rows = [row["input_ids"][:options.max_length] for row in rows]
        base = AutoModelForCausalLM.from_pretrained(options.folder, attn_implementation="sdpa", dtype="bfloat16"
                                                    if options.half_weights else "float32",
                                                    **quantization(options))
        if options.checkpointing:
            base.config.use_cache = False
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model = PeftModel.from_pretrained(base, options.start, is_trainable=True)

    def modules(self):
        return [self.model]

    def groups(self):
        return [{"params": [p for p in self.model.parameters() if p.requires_grad]}]

    def inputs(self, rows):
        import torch

        chosen = [self.rows[i] for i in rows]
        width = max(map(len, chosen))
        return {"input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids in chosen]),
                "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in chosen]),
                "labels": torch.tensor([ids + [-100] * (width - len(ids)) for ids in chosen])}

    def loss(self, inputs, rows):
        return self.model(**inputs).loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help="Hugging Face folder of the base model")
    parser.add_argument("rows", help="JSONL with text, text_pair and label, or with input_ids")
    parser.add_argument("start", help="PEFT folder to start from, with head.safetensors for an encoder")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--pooling", choices=["mean", "cls"], default="mean")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--half-weights", action="store_true",
                        help="a language model's weights in bfloat16, without autocast")
    parser.add_argument("--quantize", choices=["none", "int8", "nf4"], default="none",
                        help="linear layers of a language model by bitsandbytes")
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing of a language model")
    parser.add_argument("--fused", action="store_true", help="PyTorch's fused AdamW")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    import torch
    from transformers import get_linear_schedule_with_warmup

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    rows = [json.loads(line) for line in open(options.rows, encoding="utf-8")]
    peer = Causal(options, rows) if options.causal else Encoder(options, rows)
    for module in peer.modules():
        module.to(options.device)
    kind = torch.device(options.device).type
    groups = peer.groups()
    trained = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, weight_decay=0.0, fused=options.fused)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, options.steps)
    for module in peer.modules():
        module.train(not options.no_dropout)
    first, training, samples, tokens, cells, losses = 0.0, 0.0, 0, 0, 0, []
    began = process_start()
    for batch in batches(len(rows), options.batch, options.steps):
        at = time.perf_counter()
        inputs = {name: x.to(options.device) for name, x in peer.inputs(batch).items()}
        with torch.autocast(kind, torch.bfloat16, enabled=options.bf16 and not options.half_weights):
            loss = peer.loss(inputs, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) == 1:
            first = time.time() - began  # the warm-up step is not part of the steady state
        else:
            training += time.perf_counter() - at
            samples += len(batch)
            tokens += int(inputs["attention_mask"].sum())
            cells += inputs["attention_mask"].numel()
    print(json.dumps({"samples_per_second": samples / training, "tokens_per_step": tokens / max(options.steps - 1, 1),
                      "cells_per_step": cells / max(options.steps - 1, 1),
                      "device_mb": torch.cuda.max_memory_reserved() / 2**20 if kind == "cuda" else None,
                      "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                      "seconds_to_first_step": first,
                      "seconds": time.time() - began, "losses": losses, "trained": sum(p.numel() for p in trained)}))


if __name__ == "__main__":
    main()
