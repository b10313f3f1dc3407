#!/usr/bin/env python3
"""What each part of a run's start costs, as --verbose says it: finite numbers and fingerprint, parity, the first pass.
Prints a table.

  .venv/bin/python tools/bench/start_costs.py (--causal FOLDER | --llama WIDTH,LAYERS) [--quantize none|int8|nf4]
  [--threads N] [--repeat 2] [--without-archive]

The model is started from its folder and from a TorchScript archive of it, each with --verify (everything is computed)
and without (what is known of an unchanged file is remembered), with no training steps; the least of --repeat starts is
taken. The files are in the system's cache after the first.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = re.compile(r"start: (?P<name>.*?): (?P<seconds>[\d.]+) s(?:, (?P<rate>[\d.]+) s/GB)?; memory (?P<memory>\d+) "
                   r"MB, at most (?P<most>\d+) MB")


def start(program: str, config: Path, run: Path, verify: bool, threads: int) -> dict[str, tuple[float, str, str]]:
    """Stage -> seconds, seconds a gigabyte, memory at most."""
    command = [program, "--verbose", *["--verify"] * verify, "finetune", str(config), "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found = {m["name"]: (float(m["seconds"]), m["rate"] or "", m["most"])
             for m in STAGE.finditer(done.stdout + done.stderr)}
    result = json.loads((run / "result.json").read_text())
    return found | {"all to the end of the start": (result["seconds_to_first_step"] or result["seconds"], "",
                                                    f"{result['peak_rss_mb']:.0f}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/deeplora"))
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--causal", metavar="FOLDER", type=Path)
    model.add_argument("--llama", metavar="WIDTH,LAYERS")
    parser.add_argument("--quantize", choices=["none", "int8", "nf4"], default="none")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--without-archive", action="store_true")
    o = parser.parse_args()
    from finetune_vs_peft import minilm

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = o.causal.resolve() if o.causal else place / "llama"
        if o.llama:
            subprocess.run([sys.executable, "tools/bench/random_llama.py", folder, o.llama, "--tokenizer", minilm()],
                           cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        sources = {"folder": folder}
        if not o.without_archive:
            sources["archive"] = place / "model.pt"
            subprocess.run([sys.executable, "tools/export_torchscript.py", folder, sources["archive"], "--task",
                            "causal-lm", "--dtype", "bfloat16"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        rows = place / "rows.jsonl"
        rows.write_text(json.dumps({"input_ids": [3, 4, 5, 6, 7, 8, 9]}) + "\n")
        print(f"{o.threads} threads, bfloat16, quantize {o.quantize}, least of {o.repeat}\n\n"
              "| from | known file | stage | s | s/GB | peak memory so far, MB |\n|---|---|---|---|---|---|",
              flush=True)
        for source, path in sources.items():
            config = place / f"{source}.yaml"
            config.write_text(f"model: {{path: {path}, precision: bfloat16, quantize: {o.quantize}}}\n"
                              f"data: {{task: causal-lm, train: {rows}, dev_share: 0, pack: false}}\n"
                              "adapter: {method: lora, rank: 8, targets: all-linear}\n"
                              f"train: {{steps: 0, threads: {o.threads}}}\n")
            for verify in (True, False):
                runs = [start(o.program, config, place / f"{source}-{verify}-{i}", verify, o.threads)
                        for i in range(o.repeat)]
                for stage in runs[0]:
                    seconds, rate, most = min(run[stage] for run in runs)
                    print(f"| {source} | {'no' if verify else 'yes'} | {stage} | {seconds:.2f} | {rate} | {most} |",
                          flush=True)


if __name__ == "__main__":
    main()
