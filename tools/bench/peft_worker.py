#!/usr/bin/env python3
"""One PEFT + transformers fine-tuning run, measured as deeplora measures its own: the peer of tools/bench/finetune_vs_peft.py.

Sentence encoder with mean pooling and a linear head, LoRA on the six projections of every layer, AdamW, linear decay, gradient
clipping at 1, dynamic padding, rows grouped by length, sdpa attention. Prints one JSON object.
"""
from __future__ import annotations

import argparse
import json
import random
import resource
import time
import warnings

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


def length_grouped(lengths: list[int], batch: int, rng: random.Random) -> list[list[int]]:
    """transformers' group_by_length: shuffled, then sorted by length within stretches of 50 batches; batches in random order."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    stretch = 50 * batch
    grouped = []
    for i in range(0, len(order), stretch):
        grouped += sorted(order[i:i + stretch], key=lambda k: lengths[k], reverse=True)
    batches = [grouped[i:i + batch] for i in range(0, len(grouped), batch)]
    full = [b for b in batches if len(b) == batch]
    rng.shuffle(full)
    return full + [b for b in batches if len(b) < batch]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help="Hugging Face folder of the encoder")
    parser.add_argument("rows", help="JSONL with text and label")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, AutoTokenizer, get_linear_schedule_with_warmup

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    rows = [json.loads(line) for line in open(options.rows, encoding="utf-8")]
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=options.max_length)
    labels = torch.tensor([float(row["label"]) for row in rows])
    mean, spread = labels.mean(), labels.std(unbiased=False)
    base = AutoModel.from_pretrained(options.folder, attn_implementation="sdpa", add_pooling_layer=False)
    model = get_peft_model(base, LoraConfig(r=options.rank, lora_alpha=16, target_modules="all-linear"))
    head = torch.nn.Linear(base.config.hidden_size, 1)
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": adapters}, {"params": head.parameters(), "lr": 5e-3}], lr=options.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, options.steps)
    model.train()
    rng = random.Random(1)
    first = 0.0
    done, training, samples, tokens, losses = 0, 0.0, 0, 0, []
    began = process_start()
    while done < options.steps:
        for batch in length_grouped([len(ids) for ids in encoded["input_ids"]], options.batch, rng):
            if done == options.steps:
                break
            at = time.perf_counter()
            inputs = tokenizer.pad({k: [encoded[k][i] for i in batch] for k in ("input_ids", "attention_mask", "token_type_ids")},
                                   return_tensors="pt")
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                hidden = model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1)
                predicted = head((hidden * mask).sum(1) / mask.sum(1)).squeeze(-1)
            loss = (predicted.float() - (labels[batch] - mean) / spread).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*adapters, *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            done += 1
            if done == 1:
                first = time.time() - began  # the warm-up step is not part of the steady state
            else:
                training += time.perf_counter() - at
                samples += len(batch)
                tokens += int(inputs["attention_mask"].sum())
    print(json.dumps({"samples_per_second": samples / training, "tokens_per_step": tokens / max(done - 1, 1), "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                      "seconds_to_first_step": first, "seconds": time.time() - began, "last_loss": sum(losses[-10:]) / len(losses[-10:]),
                      "trained": sum(p.numel() for p in adapters) + sum(p.numel() for p in head.parameters())}))


if __name__ == "__main__":
    main()
