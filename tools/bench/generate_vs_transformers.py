#!/usr/bin/env python3
"""Greedy generation by deeplora and by transformers: tokens/s behind the prompt, same folder, prompts, number of tokens
and threads. Prints ratios.

  .venv/bin/python tools/bench/generate_vs_transformers.py (--model FOLDER | --llama WIDTH,LAYERS --tokenizer FOLDER)
  [--batch 1,16] [--tokens 64]
                                 [--kinds float32,bfloat16,int8,nf4] [--threads N] [--repeat 2] [--alone]
                                 [--gguf FILE [--llama-python PYTHON]]

Each side is asked for 8 tokens and for 8 + --tokens; what lies between the two times are --tokens steps, without start
and prompts. int8 and nf4 are model.quantize, computed in float32; transformers computes in float32 beside them. --llama
makes a Llama of that shape with random weights in bfloat16. The last column sets the time of a step beside that of
reading the weights once at the speed that this machine reads memory with: 1.3 means that a step takes
1.3 times as long. --alone leaves transformers out. --gguf adds llama.cpp's tokens/s of that file, one text at a time,
by the llama-cpp-python of --llama-python (default: this Python's); the file has weights of its own kind, which the line
names.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMPT = ("Once upon a time there was a traveller who counted every house on the road from the sea to the mountains: "
          "one, two, three, four, five, six,")
FEW = 8
KINDS = {"float32": [], "bfloat16": ["model.precision=bfloat16"], "int8": ["model.quantize=int8"],
         "nf4": ["model.quantize=nf4"]}


def read_speed(threads: int) -> float:
    """Bytes a second that all threads read memory with: the best of five passes over 1 GB."""
    import torch

    torch.set_num_threads(threads)
    memory = torch.ones(2**28)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        memory.sum()
        best = min(best, time.perf_counter() - start)
    return memory.nbytes / best


def random_llama(place: Path, shape: str, tokenizer: str) -> Path:
    from transformers import AutoTokenizer

    words = -(-len(AutoTokenizer.from_pretrained(tokenizer)) // 64) * 64
    subprocess.run([sys.executable, ROOT / "tools/bench/random_llama.py", place, shape, "--vocab", str(words),
                    "--tokenizer", tokenizer], check=True,
                   stdout=subprocess.DEVNULL)
    return place


def run(*arguments, threads: int) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([str(ROOT / "build/deeplora"), *map(str, arguments)], capture_output=True, text=True,
                          cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode != 0:
        sys.exit(f"deeplora {' '.join(map(str, arguments))}\n{done.stderr}")
    return time.perf_counter() - start, done.stdout


def tokens_of(model: Path, text: str) -> int:
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(model)(text, add_special_tokens=False)["input_ids"])


def ours(place: Path, model: Path, kind: str, batch: int, o) -> tuple[float, dict]:
    """Tokens/s, and result.json of the run that changes nothing."""
    rows, folder = place / "rows.jsonl", place / f"run-{kind}-{batch}"
    rows.write_text(json.dumps({"prompt": PROMPT, "completion": " seven"}) + "\n")
    prompts = place / f"prompts-{batch}.jsonl"
    prompts.write_text((json.dumps({"prompt": PROMPT}) + "\n") * batch)
    config = place / "config.yaml"
    config.write_text(f"model: {{path: {model}}}\ndata: {{task: causal-lm, train: {rows}, dev_share: 0, max_length: "
                      f"128}}\nadapter: {{method: none}}\n"
                      f"train: {{steps: 0, eval_batch_size: {batch}}}\n")
    run("finetune", config, "--run", folder, *[w for s in KINDS[kind] for w in ("--set", s)], threads=o.threads)
    times = []
    for tokens in (FEW, FEW + o.tokens):
        best = float("inf")
        for _ in range(o.repeat):
            seconds, said = run("predict", folder, "--input", prompts, "--set",
                                f"data.generation.max_new_tokens={tokens}", threads=o.threads)
            best = min(best, seconds)
        times.append(best)
    texts = [json.loads(line)["text"] for line in said.splitlines()]
    if any(tokens_of(model, text) < (FEW + o.tokens) // 2 for text in texts):
        print("  deeplora met an end token early: its tokens/s are too high", file=sys.stderr)
    return batch * o.tokens / (times[1] - times[0]), json.loads((folder / "result.json").read_text()) | {
        "text": texts[0]}


def peer(model: Path, kind: str, batch: int, o) -> tuple[float, str]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(o.threads)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    inputs = tokenizer([PROMPT] * batch, return_tensors="pt")
    times = []
    for tokens in (FEW, FEW + o.tokens):
        best = float("inf")
        for _ in range(o.repeat):
            start = time.perf_counter()
            with torch.no_grad():
                said = network.generate(**inputs, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens,
                                        pad_token_id=0)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    return batch * o.tokens / (times[1] - times[0]), tokenizer.decode(said[0][inputs["input_ids"].shape[1]:],
        skip_special_tokens=True)


LLAMA_CPP = """
import json, sys, time
from llama_cpp import Llama
file, prompt, threads, repeat, few, many = sys.argv[1:3] + [int(word) for word in sys.argv[3:]]
model, times = Llama(file, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False), []
ids = model.tokenize(prompt.encode())
end = {model.token_eos(): -float('inf')}
for count in (few, many):
    best = float('inf')
    for _ in range(repeat):
        model.reset()
        start = time.perf_counter()
        said = model.create_completion(ids, max_tokens=count, temperature=0, logit_bias=end)
        best = min(best, time.perf_counter() - start)
        assert said['usage']['completion_tokens'] == count, said
    times.append(best)
print(json.dumps((many - few) / (times[1] - times[0])))
"""


def llama_cpp(o) -> float:
    """Tokens/s of the GGUF file."""
    done = subprocess.run([o.llama_python, "-c", LLAMA_CPP, o.gguf, PROMPT, str(o.threads), str(o.repeat), str(FEW),
                           str(FEW + o.tokens)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: llama.cpp failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def bytes_a_step(model: Path, kept: int) -> int:
    """Of the weights, all but a table that only single rows are read of."""
    from safetensors import safe_open

    names = {}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            names.update({name: content.get_slice(name) for name in content.keys()})
    if not any(name.startswith("lm_head") for name in names):
        return kept
    table = names["model.embed_tokens.weight"]
    size = {"BF16": 2, "F16": 2, "F32": 4}[table.get_dtype()]
    return kept - size * table.get_shape()[0] * table.get_shape()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--llama")
    parser.add_argument("--tokenizer")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--gguf", metavar="FILE")
    parser.add_argument("--llama-python", default=sys.executable)
    o = parser.parse_args()
    if (o.model is None) == (o.llama is None) or (o.llama and not o.tokenizer):
        parser.error("name --model FOLDER, or --llama WIDTH,LAYERS with --tokenizer FOLDER")
    speed = read_speed(o.threads)
    print(f"{o.threads} threads read {speed / 1e9:.1f} GB/s\n\n| | batch | deeplora, tokens/s | transformers | ratio | "
          f"weights, MB | step / reading them |\n"
          "|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = o.model.resolve() if o.model else random_llama(place / "llama", o.llama, o.tokenizer)
        for kind in o.kinds.split(","):
            for batch in map(int, o.batch.split(",")):
                own, result = ours(place, model, kind, batch, o)
                read = bytes_a_step(model, result["model_bytes"])
                other, text = (None, None) if o.alone else peer(model, kind, batch, o)
                print(f"| {kind} | {batch} | {own:.1f} | {'' if other is None else f'{other:.1f}'} | "
                      f"{'' if other is None else f'{own / other:.2f}'} | "
                      f"{read / 2**20:.0f} | {batch / own / (read / speed):.2f} |", flush=True)
                if kind == "float32" and text is not None and text[:40].strip() != result["text"][:40].strip():
                    print(f"  the texts differ: {result['text'][:60]!r} and {text[:60]!r}", file=sys.stderr)
        if o.gguf:
            size = Path(o.gguf).stat().st_size
            print(f"| llama.cpp, {Path(o.gguf).name} | 1 | | {(found := llama_cpp(o)):.1f} | | {size / 2**20:.0f} | "
                  f"{1 / found / (size / speed):.2f} |", flush=True)


if __name__ == "__main__":
    main()
